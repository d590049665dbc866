"""rho-PNN: band-wise sharpening from nothing but the scene, with the spectral quality that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import Round, State
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.zero_shot.bandwise import Bandwise, BandwiseSettings, flatten
from torchspectral.sharpening.zero_shot.guard import Guard, Trace
from torchspectral.sharpening.zero_shot.hysteresis import adaptive_iterations
from torchspectral.sharpening.zero_shot.losses import LocalCorrelation
from torchspectral.sharpening.zero_shot.networks import RhoPNNNetwork, RPNNNetwork
from torchspectral.sharpening.zero_shot.rho_first import first_phase, is_first_phase
from torchspectral.sharpening.zero_shot.rho_tuning import BandTuning, Batch
from torchspectral.sharpening.zero_shot.salience import choose_pieces, equal_pieces
from torchspectral.sharpening.zero_shot.stack import Stack

FULL = {"spectral_quality": 0.65, "beta": 2.0, "tolerance": 1.007, "sharpenings": 20, "train_patch": 120}
REDUCED = {"spectral_quality": 0.62, "beta": 1.0, "tolerance": 1.003, "sharpenings": 5, "train_patch": 90}


class RhoPNNSettings(BandwiseSettings):
    """Settings of rho-PNN; 0 stands for the paper's value at the chosen resolution."""

    resolution: Literal["full", "reduced"] = setting(
        "full", "set of the paper's values: full resolution, or reduced (Wald's protocol)"
    )
    spectral_quality: float = setting(
        0.0, "gamma: spectral loss to end below, in units of the interpolated band's; 0: 0.65 full, 0.62 reduced", ge=0
    )
    gamma_low: float = setting(0.9, "gamma_l: the structural loss comes on below this share of it", gt=0, le=1)
    beta: float = setting(0.0, "beta_0, most weight of the structural loss; 0: 2 full, 1 reduced", ge=0)
    tolerance: float = setting(
        0.0, "epsilon, growth of the spectral loss in two steps that is borne; 0: 1.007 full, 1.003 reduced", ge=0
    )
    sharpenings: int = setting(0, "n_s, iterations with structural loss that end a band; 0: 20 full, 5 reduced", ge=0)
    eta: float = setting(30.0, "mean iterations a band beyond the least, in units of 4 n_s", ge=0)
    ensemble: int = setting(10, "copies whose weights are averaged for the start", ge=1)
    ensemble_epochs: int = setting(10, "epochs of each copy", ge=0)
    epochs: int = setting(300, "epochs on the first band", ge=0)
    batch: int = setting(4, "patches in a step on the first band", ge=1)
    train_patch: int = setting(
        0, "side of these patches on the PAN's grid; 0: 120 full, 90 reduced", unit="pixel", ge=0
    )
    first_beta: float = setting(0.5, "weight of the structural loss on the first band", ge=0)
    decay: float = setting(0.95, "of the moving average of the weights", ge=0, lt=1)
    tuning_patch: int = setting(50, "side of the pieces that bands are tuned on, coarse grid", unit="pixel", ge=11)
    tuning_patches: int = setting(4, "pieces that bands are tuned on at full resolution", ge=1)
    salience: Literal["statistics", "mobilenet"] = setting(
        "statistics", "how these are chosen: by means, deviations and gradients, or by a network as the authors"
    )
    mobilenet_weights: str = setting("", "file of torchvision's mobilenet_v3_small weights, for salience=mobilenet")

    def of_mode(self, name: str) -> float:
        """A value, or the paper's for the resolution where it is 0."""
        given: float = getattr(self, name)
        return given or (FULL if self.resolution == "full" else REDUCED)[name]


class RhoPNN(Bandwise):
    """rho-PNN: zero-shot, band by band, sharpened only as far as the colours allow.

    A small network learns the first band from random weights, then is tuned from band to band. The structural loss
    (one minus the absolute local correlation with the PAN) is switched on only while the spectral loss stays below
    `spectral_quality` times that of the interpolated band. Values are divided by 65536 (raw numbers), 1 (reflectance)
    or their largest.

    References
    ----------
    Guarino, Ciotola, Vivone, Poggi, Scarpa, "Zero-shot hyperspectral pansharpening using hysteresis-based tuning for
    spectral quality control", IEEE TGRS 63 (2025), arXiv 2505.16658.
    """

    Settings: ClassVar[type[Settings]] = RhoPNNSettings
    network: ClassVar[type[RPNNNetwork]] = RhoPNNNetwork
    pads: ClassVar[bool] = False

    def adapt(self, stack: Stack, state: State | None = None, seed: int = 0) -> Iterator[Round]:
        """Learn the first band, then tune through all; see `Bandwise.adapt`. Given weights replace the first phase."""
        order = self.order_of(stack)
        running = dict((state or {}).get("running", {}))
        given = state if state and "conv1.weight" in state else None
        net = self.build(running.get("network") or given, stack.pan.device, seed)
        optimiser = torch.optim.Adam(net.parameters(), lr=self.settings.learning_rate)
        facts: dict[str, Any] = running.get("facts", {})
        if order and given is None and (not running or is_first_phase(running)):
            for now, fraction in first_phase(self, net, optimiser, stack, order[0], running, seed, facts):
                yield {"running": now}, 0.3 * fraction
            running = {}
        yield from self._bands(net, optimiser, stack, order, running, seed, facts)

    def _bands(
        self,
        net: RPNNNetwork,
        optimiser: torch.optim.Optimizer,
        stack: Stack,
        order: list[int],
        running: dict[str, Any],
        seed: int,
        facts: dict[str, Any],
    ) -> Iterator[Round]:
        s = self.settings
        networks = running.get("networks")
        if networks is None:
            networks = self.room_for_networks(stack)
        else:
            optimiser.load_state_dict(running["optimiser"])
        guard = Guard.unpack(running["guard"]) if running else Guard(stack.bands)
        trace = Trace(running.get("trace"))
        columns = running.get("columns") or {"budget": [0] * stack.bands, "beta": [float("nan")] * stack.bands}
        if order:
            chosen = running.get("chosen") or self.tuning_pieces(stack, seed)
            counts = running.get("counts") or adaptive_iterations(
                stack.neighbour_correlation(order), 4 * int(s.of_mode("sharpenings")), s.eta
            )
            batch = Batch(self, stack, chosen)
            field = LocalCorrelation(stack.pan, -(-stack.ratio // 2))
        for place in range(int(running.get("place", 0)), len(order)):
            band = order[place]
            tuning = BandTuning(self, net, optimiser, batch, band)
            tuning.run(counts[place], trace)
            networks[band] = flatten(net)
            columns["budget"][band], columns["beta"][band] = counts[place], tuning.beta
            with torch.no_grad():
                out = net(self.padded(stack.up(band), stack.pan))
            self.judge(
                guard, stack, band, out, field,
                iterations=tuning.iterations, target=s.of_mode("spectral_quality"), reached=tuning.reached,
            )  # fmt: skip
            if place + 1 < len(order):
                kept = {
                    "place": place + 1,
                    "network": dict(net.state_dict()),
                    "optimiser": optimiser.state_dict(),
                    "networks": networks,
                    "guard": guard.pack(),
                    "trace": trace.rows(),
                    "columns": columns,
                    "chosen": chosen,
                    "counts": counts,
                    "facts": facts,
                }
                yield {"running": kept}, 0.3 + 0.7 * (place + 1) / len(order)
        done = self.finished(stack, networks, guard, trace, **facts)
        done["bands"] |= columns
        yield done, 1.0

    def tuning_pieces(self, stack: Stack, seed: int) -> list[int]:
        """Numbers of the pieces of the scene that bands are tuned on."""
        s = self.settings
        shown = [min(25, stack.bands - 1), min(10, stack.bands - 1), 0]
        pieces = torch.cat([equal_pieces(stack.low(band), s.tuning_patch) for band in shown], 1)
        if s.resolution == "reduced":
            return list(range(len(pieces)))
        return choose_pieces(pieces, s.tuning_patches, salience=s.salience, weights=s.mobilenet_weights, seed=seed)
