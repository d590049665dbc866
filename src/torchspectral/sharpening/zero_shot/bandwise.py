"""What R-PNN and rho-PNN share: one small network a band, learned band after band, applied by tiles.

`fit` sees a few bands at a time and lays the network of each finished one (0.2 to 0.4 MB) on the engine's shelf, from
which `apply` takes one after the other: memory does not grow with the number of bands.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from torchspectral.engine.method import (
    Output,
    Round,
    Scale,
    SceneInfo,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadSettings, BadWeights
from torchspectral.log import get_logger
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.ops.mtf import HS_GAIN
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.fusion import Fusion, FusionSettings
from torchspectral.sharpening.tiles import inner_slices, widened
from torchspectral.sharpening.upsampled import Upsampled
from torchspectral.sharpening.zero_shot.guard import Guard, Trace, measure
from torchspectral.sharpening.zero_shot.losses import LocalCorrelation, SensorView
from torchspectral.sharpening.zero_shot.networks import RPNNNetwork
from torchspectral.sharpening.zero_shot.stack import Networks, Stack, stack_of, stack_of_pieces

AUTO_PIXELS = 2_250_000
"""Fine pixels up to which the whole scene is adapted on by default (1500 x 1500)."""


class ZeroShotSettings(FusionSettings):
    """Settings that all methods have that learn on the scene."""

    compat: Literal["", "authors-code"] = setting(
        "", "'authors-code': unnormalised MTF kernels, circular border, fixed grid offset, as the authors' code"
    )
    gain: float = setting(
        0.0, "values are divided by it for the network; 0: by the quantity, see the method's page", ge=0
    )
    mtf_gain: float = setting(
        0.0, "amplitude of the sensor's MTF at Nyquist; 0: the sensor's own, 0.3 where unknown", ge=0, lt=1
    )
    adapt_on: Literal["auto", "scene", "patches"] = setting(
        "auto", "learn on the whole scene, on patches, or by its size (patches above 2.25 million fine pixels)"
    )
    patches: int = setting(16, "patches to learn on", ge=1)
    patch: int = setting(50, "side of these patches on the coarse grid", unit="pixel", ge=11)
    fallback: bool = setting(False, "hand out the interpolated band where the guard finds the sharp one worse")


class BandwiseSettings(ZeroShotSettings):
    """Settings of R-PNN and rho-PNN alike."""

    learning_rate: float = setting(1e-5, "learning rate of Adam", gt=0)
    wavelengths: tuple[float, ...] = setting((), "band centres, instead of the scene's", unit="nm")
    sort: bool = setting(True, "sweep through the bands by wavelength, whatever their order in the scene")
    least_snr: float = setting(
        0.0, "skip bands whose mean is below this many noise levels; 0: none but empty ones", ge=0
    )


class Bandwise(Fusion):
    """Base of the band-wise methods."""

    Settings: ClassVar[type[Settings]] = BandwiseSettings
    outputs = (
        Output("cube", grid="pan"),
        Output("bands", kind="table", from_state=True),
        Output("trace", kind="table", from_state=True),
    )
    starts_from_state: ClassVar[bool] = True
    network: ClassVar[type[RPNNNetwork]] = RPNNNetwork
    pads: ClassVar[bool] = False
    """Whether the network loses a border, so that its input is padded."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.scale = Scale("fixed", gain=self.settings.gain or 65536.0)
        with torch.device("meta"):
            self._shape = self.network()
        self._mtf = self.settings.mtf_gain or HS_GAIN

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo from the ratio and the scale from the quantity.

        Raises
        ------
        GridMismatch
            The PAN is not finer than the cube.
        BadSettings
            There are not as many wavelengths as bands.
        """
        ratio = self.check_ratio(info)
        self.halo = interpolation_halo(ratio) + -(-self._shape.scope // ratio)
        self.scale = working_scale(self.settings.gain, info.quantity)
        if self.settings.wavelengths and len(self.settings.wavelengths) != info.bands:
            raise BadSettings(
                f"got {len(self.settings.wavelengths)} wavelengths for {info.bands} bands, expected one a band"
            )
        known = float(info.mtf.get("cube", 0.0) or 0.0)
        self._mtf = self.settings.mtf_gain or (known if 0 < known < 1 else HS_GAIN)

    # Learning

    def fit(self, source: Source, seed: int, state: State | None) -> Iterable[Round]:
        """Adapt a network to each band; yields after each."""
        if state and "networks" in state and "running" not in state:
            yield state, 1.0
            return
        s, info = self.settings, source.info
        pixels = info.shape[0] * info.shape[1] * int(info.ratio["pan"]) ** 2
        by_patches = s.adapt_on == "patches" or (s.adapt_on == "auto" and pixels > AUTO_PIXELS)
        kept = (state or {}).get("running", {}).get("pieces")
        centres = np.array(s.wavelengths) if s.wavelengths else np.asarray(info.wavelength, dtype=np.float64)
        if kept is not None:
            stack = stack_of_pieces(kept, centres, source.shelf, border=self.border)
        else:
            stack = stack_of(
                source, wavelength=centres, patches=s.patches if by_patches else 0, patch=s.patch, border=self.border
            )
        for now, fraction in self.adapt(stack, state, seed):
            if stack.pieces is not None and "running" in now:
                now["running"]["pieces"] = stack.pieces
            yield now, fraction
        for line in self.figures(now).get("warnings", []):
            get_logger("sharpening").warning("%s", line)

    @abstractmethod
    def adapt(self, stack: Stack, state: State | None = None, seed: int = 0) -> Iterator[Round]:
        """Adapt on a stack in the working scale; yields (state, fraction) after each round.

        Parameters
        ----------
        stack : Stack
        state : dict, optional
            Weights to start from, or what an interrupted adaptation yielded last.
        seed : int
        """

    def order_of(self, stack: Stack) -> list[int]:
        """Bands that are adapted, in the order of the sweep: by wavelength where known, without empty and noisy ones."""
        order = list(range(stack.bands))
        if self.settings.sort and not self.as_authors and np.isfinite(stack.wavelength).all():
            order = [int(b) for b in np.argsort(stack.wavelength, kind="stable")]
        stack.in_order(order)
        kept = [band for band in order if self._usable(stack, band)]
        stack.in_order(kept or order)
        return kept

    def _usable(self, stack: Stack, band: int) -> bool:
        low = stack.low(band)
        values = low[stack.valid > 0] if stack.valid is not None else low.reshape(-1)
        if float(values.max()) == float(values.min()):
            return False
        if not self.settings.least_snr:
            return True
        steps = (low[..., 1:] - low[..., :-1]).reshape(-1)
        noise = 1.4826 * float((steps - steps.median()).abs().median()) / np.sqrt(2)
        return float(values.mean().abs()) >= self.settings.least_snr * noise

    def view(self, ratio: int) -> SensorView:
        """The sensor's view of a fine image."""
        offset = 3 if self.as_authors and ratio > 3 else None  # theirs is for ratio 6
        return SensorView.of(ratio, self._mtf, offset=offset, normalize=not self.as_authors)

    def build(self, state: Mapping[str, Any] | None, device: Any, seed: int) -> RPNNNetwork:
        """The network with the weights of a state, or with seeded fresh ones.

        Raises
        ------
        BadWeights
            The state holds weights of another network.
        """
        given = {k: v for k, v in (state or {}).items() if isinstance(v, torch.Tensor)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = self.network()
        if given:
            own = made.state_dict()
            if {k: tuple(v.shape) for k, v in own.items()} != {k: tuple(v.shape) for k, v in given.items()}:
                raise BadWeights(
                    f"got weights {', '.join(sorted(given))[:120]}, expected those of {type(made).__name__}: "
                    f"{', '.join(f'{k} {tuple(v.shape)}' for k, v in own.items())}"
                )
            made.load_state_dict(given)
        return made.to(device=device).to(memory_format=torch.channels_last)

    def padded(self, band: torch.Tensor, pan: torch.Tensor) -> torch.Tensor:
        """Input of the network, (n, 2, y, x), channels last."""
        x = torch.cat([band, pan], dim=1)
        if self.pads:
            s = self._shape.scope
            x = torch.nn.functional.pad(x, (s, s, s, s), mode="reflect")
        return x.contiguous(memory_format=torch.channels_last)

    def room_for_networks(self, stack: Stack) -> Networks:
        """Zeros for the weights of one network a band, (bands, parameters)."""
        return stack.shelf("networks", stack.bands, sum(p.numel() for p in self._shape.parameters()))

    def judge(
        self, guard: Guard, stack: Stack, band: int, out: torch.Tensor, field: LocalCorrelation, **more: Any
    ) -> None:
        """Enter a finished band into the guard."""
        view = self.view(stack.ratio)
        with torch.no_grad():
            weight = None if stack.valid is None else view.crop(stack.valid)
            spectral, reference, correlation = measure(
                view(out), view(stack.up(band)), view.crop(stack.low(band)), field(out), weight, stack.fine_valid
            )
        guard.note(band, reference=reference, spectral=spectral, correlation=correlation, **more)

    def finished(self, stack: Stack, networks: Networks, guard: Guard, trace: Trace, **facts: Any) -> State:
        """The state after the last band."""
        if self.settings.fallback:
            guard.fall_back()
        return {
            "networks": networks,
            "interpolated": guard.interpolated(),
            "bands": guard.table(stack.wavelength),
            "trace": Trace.table(trace.rows()),
            "warnings": guard.warnings(band_names(stack.wavelength)),
            "facts": {"pieces": int(stack.pan.shape[0]), **facts},
        }

    # Applying

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Predict the core of a tile, band by band."""
        if "networks" not in state:
            raise BadWeights("the state holds no adapted networks: run the method on the scene first")
        networks = state["networks"]
        if networks.shape[0] != tile["cube"].shape[1]:
            raise BadWeights(
                f"the state holds networks of {networks.shape[0]} bands and the scene has {tile['cube'].shape[1]}: "
                "adapt to this scene"
            )
        ratio = int(tile.info.ratio["pan"])
        wide = widened(tile, -(-self._shape.scope // ratio))
        up = Upsampled(wide, self.border)
        rows, cols = inner_slices(tile, wide, ratio)
        cube = tile["cube"]
        n, bands = cube.shape[:2]
        out = cube.new_empty((n, bands, rows.stop - rows.start, cols.stop - cols.start))
        for band in range(bands):
            image = up.interpolate(cube[:, band : band + 1]) if up.given is None else up.given[:, band : band + 1]
            if not state["interpolated"][band]:
                image = self.predict(networks[band], image, up.pan)
            out[:, band : band + 1] = image[..., rows, cols]
        return {"cube": out}

    def predict(self, vector: torch.Tensor, band: torch.Tensor, pan: torch.Tensor) -> torch.Tensor:
        """A sharp band from an interpolated one and the network's weights as one vector."""
        with torch.no_grad():
            weights = unflatten(vector.to(band), self._shape)
            out: torch.Tensor = torch.func.functional_call(self._shape, weights, (self.padded(band, pan),))
        return out

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of a band's feature maps with their gradients in `fit`, and of a tile's maps and outputs in `apply`."""
        pixels = size.rows * size.cols * size.zoom**2
        maps = sum(layer.out_channels for layer in (self._shape.conv1, self._shape.conv2)) + 4
        network = sum(p.numel() for p in self._shape.parameters())
        return {"fit": 4 * (4 * maps * pixels + 8 * network), "apply": 4 * (pixels * (2 * maps + size.bands) + network)}

    def figures(self, state: State) -> dict[str, Any]:
        """The guard's findings: bands that did not converge, loss against interpolation, warnings."""
        if "bands" not in state:
            return {}
        table = state["bands"]
        ratios = np.array(table["spectral_ratio"], dtype=float)
        known = ratios[np.isfinite(ratios)]
        names = band_names(np.array(table["wavelength"]))
        return {
            "not_converged": [names[b] for b, ok in enumerate(table["converged"]) if not ok],
            "spectral_ratio_median": float(np.median(known)) if known.size else None,
            "spectral_ratio_worst": float(known.max()) if known.size else None,
            "iterations": int(sum(table["iterations"])),
            "warnings": list(state["warnings"]),
            **state["facts"],
        }


def working_scale(gain: float, quantity: str) -> Scale:
    """What values are divided by: the given gain; else 65536 for raw numbers, 1 for reflectance, the largest value."""
    if gain:
        return Scale("fixed", gain=gain)
    return {"dn": Scale("fixed", gain=65536.0), "reflectance": Scale("fixed", gain=1.0)}.get(quantity, Scale("max"))


def band_names(wavelength: np.ndarray) -> list[str]:
    """How to call bands: number from 1, and wavelength where known."""
    return [f"{n}" if not np.isfinite(w) else f"{n} ({w:.0f} nm)" for n, w in enumerate(wavelength, start=1)]


def flatten(network: torch.nn.Module) -> torch.Tensor:
    """All weights of a network as one vector on the CPU."""
    return torch.cat([v.detach().reshape(-1).cpu() for v in network.state_dict().values()])


def unflatten(vector: torch.Tensor, like: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a network from a vector."""
    out, start = {}, 0
    for key, value in like.state_dict().items():
        out[key] = vector[start : start + value.numel()].reshape(value.shape)
        start += value.numel()
    return out
