"""Z-PNN: a pre-trained multispectral network adapted to the scene by losses at full resolution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from torchspectral.engine.method import Output, Round, SceneInfo, Size, Source, State, Tile
from torchspectral.errors import BadInput, BadSettings, BadWeights, MissingWeights
from torchspectral.log import get_logger
from torchspectral.ops.interpolate import ideal_interp, interpolation_halo
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.fusion import Fusion
from torchspectral.sharpening.tiles import inner_slices, widened
from torchspectral.sharpening.upsampled import Upsampled
from torchspectral.sharpening.zero_shot.architectures import architecture_of, build, filled, network_of, reach_of
from torchspectral.sharpening.zero_shot.bandwise import AUTO_PIXELS, ZeroShotSettings, band_names, working_scale
from torchspectral.sharpening.zero_shot.full_resolution import FullResolution
from torchspectral.sharpening.zero_shot.guard import Guard, Trace, measure
from torchspectral.sharpening.zero_shot.losses import LOSS_BORDER
from torchspectral.sharpening.zero_shot.multispectral import SensorValues, phases, sensor_values, smooth_kernel
from torchspectral.sharpening.zero_shot.stack import valid_pixels

COUNTS = 2048.0
"""What raw numbers of 11 bits are divided by."""
EPOCHS = {"full": 100, "supervised": 2000, "scratch": 2000}


class ZPNNSettings(ZeroShotSettings):
    """Settings of Z-PNN; 0 stands for the authors' value for the sensor and the weights."""

    architecture: Literal["auto", "pnn", "pannet", "drpnn"] = setting(
        "auto", "network; auto: that of the weights, pnn from scratch"
    )
    sensor: str = setting("auto", "WV3, WV2, GE1, QB, IKONOS or other; auto: the scene's")
    pretrained: Literal["full", "supervised"] = setting(
        "full", "how the weights were trained: at full resolution (Z-*), or supervised (*-TA-FR)"
    )
    from_scratch: bool = setting(False, "start from random weights: any number of bands and ratio")
    epochs: int = setting(0, "steps on the whole image; 0: 100 from Z-* weights, 2000 else", ge=0)
    learning_rate: float = setting(0.0, "learning rate of Adam; 0: 1e-5, 5e-5 for GE1, QB and IKONOS", ge=0)
    beta: float = setting(0.0, "weight of the structural loss; 0: 0.36, 0.25 for GE1, QB and IKONOS", ge=0)
    coregistration: bool = setting(False, "estimate the phase of each band's pixels on the PAN's grid first")
    early_stop: int = setting(0, "stop after this many steps without a better loss; 0: never", ge=0)
    spectral_quality: float = setting(
        0.0, "keep only weights whose spectral loss is below this share of the interpolated image's; 0: any", ge=0
    )


class ZPNN(Fusion):
    """Z-PNN and its kin: target-adaptive pansharpening without a truth.

    The network, one of PNN, PanNet and DRPNN, sees the interpolated image and the PAN. It is trained on the scene
    itself by a spectral loss (its output through the sensor's MTF, against the image) and a structural one (local
    correlation with the PAN). The weights of the least loss are kept. Raw numbers are divided by 2048.

    References
    ----------
    Ciotola, Vitale, Mazza, Poggi, Scarpa, "Pansharpening by convolutional neural networks in the full resolution
    framework", IEEE TGRS (2022), arXiv 2111.08334.
    """

    Settings: ClassVar[type[Settings]] = ZPNNSettings
    outputs = (
        Output("cube", grid="pan"),
        Output("bands", kind="table", from_state=True),
        Output("trace", kind="table", from_state=True),
    )
    starts_from_state: ClassVar[bool] = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.scale = working_scale(self.settings.gain or COUNTS, "dn")
        self.values: SensorValues | None = None
        self._blank: torch.nn.Module | None = None

    def prepare(self, info: SceneInfo) -> None:
        """Set halo, scale, and the sensor's values.

        Raises
        ------
        GridMismatch
            The PAN is not finer, or the sensor has another number of bands.
        """
        ratio = self.check_ratio(info)
        s = self.settings
        self.halo = interpolation_halo(ratio) + -(-reach_of("drpnn", ratio) // ratio)
        self.scale = working_scale(s.gain or (COUNTS if info.quantity == "dn" else 0.0), info.quantity)
        named = info.sensor if s.sensor == "auto" else s.sensor
        known = s.mtf_gain or float(info.mtf.get("cube", 0.0) or 0.0)
        self.values = sensor_values(named, info.bands, known)

    # Learning

    def fit(self, source: Source, seed: int, state: State | None) -> Iterable[Round]:
        """Adapt to the scene; yields after every step."""
        if state and "bands" in state and "running" not in state:
            yield state, 1.0
            return
        s, info = self.settings, source.info
        ratio = int(info.ratio["pan"])
        by_patches = s.adapt_on == "patches" or (
            s.adapt_on == "auto" and info.shape[0] * info.shape[1] * ratio**2 > AUTO_PIXELS
        )
        pieces = (state or {}).get("running", {}).get("pieces")
        if pieces is None and by_patches:
            tile = source.patches(s.patches, min(s.patch, *info.shape))
            pieces = {"cube": tile["cube"], "pan": tile["pan"], "valid": tile.valid}
        if pieces is None:
            cube, pan, valid = source.whole("cube"), source.whole("pan"), valid_pixels(source)
        else:
            cube, pan, valid = pieces["cube"], pieces["pan"], pieces["valid"]
        wavelength = np.asarray(info.wavelength, dtype=np.float64)
        now: State = {}
        for now, fraction in self.adapt(cube, pan, state, seed, valid=valid, wavelength=wavelength):
            if "running" in now and by_patches:
                now["running"]["pieces"] = pieces
            yield now, fraction
        for line in now.get("warnings", []):
            get_logger("sharpening").warning("%s", line)

    def adapt(
        self,
        cube: torch.Tensor,
        pan: torch.Tensor,
        state: State | None = None,
        seed: int = 0,
        *,
        valid: torch.Tensor | None = None,
        wavelength: np.ndarray | None = None,
    ) -> Iterator[Round]:
        """Adapt to an image in the working scale; yields (state, fraction) after each step.

        Parameters
        ----------
        cube : Tensor, shape (n, bands, y, x)
        pan : Tensor, shape (n, 1, R * y, R * x)
        state : dict, optional
            Weights to start from, or what was yielded last.
        seed : int
            Of random weights.
        valid : Tensor of bool, shape (n, 1, y, x), optional
        wavelength : ndarray, optional

        Raises
        ------
        MissingWeights
            No weights were given and `from_scratch` is not set.
        BadInput
            The image is too small for the losses.
        """
        s, bands = self.settings, cube.shape[1]
        ratio = pan.shape[-1] // cube.shape[-1]
        values = self.values or sensor_values(s.sensor, bands, s.mtf_gain)
        running: Any = (state or {}).get("running", {})
        net = self._start(running.get("network") or state, bands, ratio, values, seed).to(cube.device)
        if min(cube.shape[-2:]) < 2 * (LOSS_BORDER + -(-net.scope // ratio)) + 1:
            raise BadInput(
                f"got {cube.shape[-2]} x {cube.shape[-1]} coarse pixels to learn from, expected at least "
                f"{2 * (LOSS_BORDER + -(-net.scope // ratio)) + 1} on each side"
            )
        weight = None if valid is None or bool(valid.all()) else valid.to(cube)
        places = self._places(cube, pan, ratio, values, weight)
        up = ideal_interp(cube, ratio, border=self.border)
        goal = FullResolution(up, pan, ratio, values.gains, places, net.scope, weight, exact=self.as_authors)
        optimiser, plateau = self._optimiser(net, values)
        if running:
            optimiser.load_state_dict(running["optimiser"])
            if plateau is not None:
                plateau.load_state_dict(running["plateau"])
        trace = Trace(running.get("trace"))
        best, saved = float(running.get("best", np.inf)), running.get("saved")
        held, waited = bool(running.get("held", False)), int(running.get("waited", 0))
        beta = s.beta or values.beta
        epochs = s.epochs or EPOCHS["scratch" if s.from_scratch else s.pretrained]
        x = torch.cat([up, pan], dim=1)
        limit = s.spectral_quality * goal.reference() if s.spectral_quality else np.inf
        for epoch in range(int(running.get("epoch", 0)), epochs):
            optimiser.zero_grad()
            spectral, structural, plain = goal(net(x))
            loss = spectral + beta * structural
            loss.backward()
            optimiser.step()
            total, colour = float(loss.detach()), float(spectral.detach())
            if plateau is not None:
                plateau.step(total)
            trace.add(0, epoch, colour, float(plain), beta, total)
            within = colour <= limit
            score = total if within else colour
            waited += 1
            if (within and not held) or (within == held and score < best):
                best, held, waited = score, within, 0
                saved = {key: value.clone() for key, value in net.state_dict().items()}
            if s.early_stop and waited >= s.early_stop:
                break
            if epoch + 1 < epochs:
                kept = {"epoch": epoch + 1, "network": dict(net.state_dict()), "optimiser": optimiser.state_dict()}
                kept |= {"best": best, "saved": saved, "held": held, "waited": waited, "trace": trace.rows()}
                kept |= {"plateau": plateau.state_dict()} if plateau is not None else {}
                yield {"running": kept}, (epoch + 1) / epochs
        if saved is not None:
            net.load_state_dict(saved)
        centres = wavelength if wavelength is not None else np.full(bands, np.nan)
        yield self._finished(net, goal, x, trace, epochs, centres, places), 1.0

    def _start(self, state: Any, bands: int, ratio: int, values: SensorValues, seed: int) -> Any:
        s = self.settings
        weights = network_of(state or {})
        if not weights:
            if not s.from_scratch:
                raise MissingWeights(
                    "z-pnn starts from a pre-trained network: give weights=FILE or a name (torchspectral weights list), "
                    "or train on the scene alone with method z-pnn-scratch"
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                kind = "pnn" if s.architecture == "auto" else s.architecture
                return build(kind, bands, ratio, values.kernels)
        kind = architecture_of(weights)
        if s.architecture not in ("auto", kind):
            raise BadSettings(f"got architecture={s.architecture}, the weights are of {kind}: leave it out")
        return filled(weights, bands, ratio)

    def _places(
        self, cube: torch.Tensor, pan: torch.Tensor, ratio: int, values: SensorValues, weight: Any
    ) -> list[tuple[int, int]]:
        """First fine pixel of each band's grid."""
        if not self.settings.coregistration:
            return [(ratio // 2, ratio // 2)] * cube.shape[1]
        gain = self.scale.gain if self.as_authors else 0.0
        return phases(cube, pan, smooth_kernel(ratio, values.gains[0]), counts=float(gain), valid=weight)

    def _optimiser(self, net: Any, values: SensorValues) -> tuple[torch.optim.Optimizer, Any]:
        s = self.settings
        rate = s.learning_rate or values.learning_rate
        last = [p for n, p in net.named_parameters() if n.startswith("Conv_11") and p.requires_grad]
        rest = [p for n, p in net.named_parameters() if not n.startswith("Conv_11") and p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": rest}]
        groups += [{"params": last, "lr": rate / 10}] if last else []
        optimiser = torch.optim.Adam(groups, lr=rate)
        if not s.from_scratch:
            return optimiser, None
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, factor=0.1, patience=100, cooldown=50, min_lr=1e-7
        )
        return optimiser, plateau

    def _finished(
        self,
        net: Any,
        goal: FullResolution,
        x: torch.Tensor,
        trace: Trace,
        epochs: int,
        wavelength: np.ndarray,
        places: list[tuple[int, int]],
    ) -> State:
        guard = Guard(goal.bands)
        with torch.no_grad():
            out = net(x)
            field = goal.field(out)
            sharp, plain, low = goal.seen(out), goal.seen(goal.up), goal.target
            for band in range(goal.bands):
                one = slice(band, band + 1)
                spectral, reference, correlation = measure(
                    sharp[:, one], plain[:, one], low[:, one], field[:, one], goal.weight, goal.fine_weight
                )
                guard.note(
                    band, reference=reference, spectral=spectral, correlation=correlation,
                    iterations=len(trace.rows()), target=self.settings.spectral_quality or 1.0,
                )  # fmt: skip
        if self.settings.fallback:
            guard.fall_back()
        table = guard.table(wavelength)
        table |= {"phase_row": [r for r, _ in places], "phase_col": [c for _, c in places]}
        rows = Trace.table(trace.rows())
        del rows["band"]
        return {
            **{key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()},
            "interpolated": guard.interpolated(),
            "bands": table,
            "trace": rows,
            "warnings": guard.warnings(band_names(wavelength)),
            "facts": {"pieces": int(x.shape[0]), "architecture": architecture_of(dict(net.state_dict()))},
        }

    # Applying

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Predict the core of a tile."""
        ratio = int(tile.info.ratio["pan"])
        weights = network_of(state)
        if not weights:
            raise BadWeights("the state holds no adapted network: run the method on the scene first")
        kind = architecture_of(weights)
        wide = widened(tile, -(-reach_of(kind, ratio) // ratio))
        up = Upsampled(wide, self.border)
        image = up.image()
        out = self.predict(weights, image, up.pan)
        for band, kept in enumerate(state["interpolated"]):
            if kept:
                out[:, band] = image[:, band]
        rows, cols = inner_slices(tile, wide, ratio)
        return {"cube": out[..., rows, cols]}

    def predict(self, weights: Mapping[str, torch.Tensor], image: torch.Tensor, pan: torch.Tensor) -> torch.Tensor:
        """The sharp image from the interpolated one, (n, bands, y, x), of the same size."""
        ratio = self._ratio(weights, image)
        if self._blank is None:
            with torch.device("meta"):
                self._blank = filled(weights, image.shape[1], ratio, empty=True)
        x = torch.cat([image, pan], dim=1)
        scope: Any = self._blank.scope
        if scope:
            x = torch.nn.functional.pad(x, (scope,) * 4, mode="replicate")
        with torch.no_grad():
            on = {key: value.to(image) for key, value in weights.items()}
            out: torch.Tensor = torch.func.functional_call(self._blank, on, (x,))
        return out

    @staticmethod
    def _ratio(weights: Mapping[str, torch.Tensor], image: torch.Tensor) -> int:
        kernel = weights.get("Conv2d_transpose.weight")
        return 4 if kernel is None else int(kernel.shape[-1]) // 2

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the interpolated image, the feature maps with their gradients, and the output."""
        pixels = size.rows * size.cols * size.zoom**2
        return {"fit": 4 * pixels * (10 * 64 + 12 * size.bands), "apply": 4 * pixels * (2 * 64 + 4 * size.bands)}

    def figures(self, state: State) -> dict[str, Any]:
        """The guard's findings, phases and steps."""
        if "bands" not in state:
            return {}
        table = state["bands"]
        names = band_names(np.array(table["wavelength"]))
        known = [r for r in table["spectral_ratio"] if np.isfinite(r)]
        return {
            "not_converged": [names[b] for b, ok in enumerate(table["converged"]) if not ok],
            "spectral_ratio_median": float(np.median(known)) if known else None,
            "spectral_ratio_worst": float(max(known)) if known else None,
            "iterations": int(max(table["iterations"])),
            "warnings": list(state["warnings"]),
            **state["facts"],
        }


class ZPNNScratchSettings(ZPNNSettings):
    """Settings of Z-PNN without weights."""

    from_scratch: bool = setting(True, "start from random weights: any number of bands and ratio")


class ZPNNScratch(ZPNN):
    """Z-PNN from random weights, trained on the scene alone: any number of bands, any ratio.

    References
    ----------
    Ciotola, Vitale, Mazza, Poggi, Scarpa, IEEE TGRS (2022), arXiv 2111.08334.
    """

    Settings: ClassVar[type[Settings]] = ZPNNScratchSettings
