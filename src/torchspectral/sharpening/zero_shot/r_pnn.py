"""R-PNN: one small network rolled through the bands, each starting from its neighbour's weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.engine.method import Round, State
from torchspectral.errors import MissingWeights
from torchspectral.ops.mtf import mtf_kernel
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.zero_shot.bandwise import Bandwise, BandwiseSettings, flatten
from torchspectral.sharpening.zero_shot.guard import Guard, Trace
from torchspectral.sharpening.zero_shot.losses import (
    LocalCorrelation,
    correlation_threshold,
    reflected_filter,
    spectral_loss,
    structural_loss,
)
from torchspectral.sharpening.zero_shot.networks import RPNNNetwork
from torchspectral.sharpening.zero_shot.stack import Stack


class RPNNSettings(BandwiseSettings):
    """Settings of R-PNN; defaults are the paper's for PRISMA."""

    first_iterations: int = setting(20, "iterations of the first band", ge=0)
    iterations_per_step: int = setting(15, "iterations a band for each begun 10 nm from the band before", ge=1)
    most_iterations: int = setting(80, "most iterations a band but the first", ge=0)
    alpha: float = setting(0.5, "weight of the structural loss", ge=0)
    alpha_far: float = setting(0.25, "the same from the first band beyond `far` on", ge=0)
    far: float = setting(700.0, "wavelength where the weight changes, for good", unit="nm", ge=0)
    early_stop: int = setting(0, "leave a band after this many iterations without a better loss; 0: never", ge=0)
    spectral_quality: float = setting(
        0.0, "keep only weights whose spectral loss is below this share of the interpolated band's; 0: any", ge=0
    )


class RPNN(Bandwise):
    """R-PNN: band-wise pansharpening by propagation of a pre-trained network.

    Each band is adapted for some iterations with a spectral loss (through the sensor's MTF, against the band itself)
    and a structural one (local correlation with the PAN), starting from the weights of the band before; the weights of
    the least loss are kept. Values are divided by 65536 (raw numbers), 1 (reflectance) or their largest.

    References
    ----------
    Guarino, Ciotola, Vivone, Scarpa, "Band-wise hyperspectral image pansharpening using CNN model propagation", IEEE
    TGRS (2023), arXiv 2311.06510.
    """

    Settings: ClassVar[type[Settings]] = RPNNSettings
    network: ClassVar[type[RPNNNetwork]] = RPNNNetwork
    pads: ClassVar[bool] = True

    def iterations(self, wavelength: np.ndarray, order: list[int]) -> list[int]:
        """Iterations of each band of the sweep; a step back in wavelength gives none."""
        s = self.settings
        found = []
        for place, band in enumerate(order):
            if place == 0:
                found.append(s.first_iterations)
                continue
            step = wavelength[band] - wavelength[order[place - 1]]
            wanted = (step // 10 + 1) * s.iterations_per_step if np.isfinite(step) else s.iterations_per_step
            found.append(max(0, int(min(wanted, s.most_iterations))))
        return found

    def adapt(self, stack: Stack, state: State | None = None, seed: int = 0) -> Iterator[Round]:
        """Roll through the bands; see `Bandwise.adapt`.

        Raises
        ------
        MissingWeights
            There are no weights to start from.
        """
        running = dict((state or {}).get("running", {}))
        if not running and not (state and "conv1.weight" in state):
            raise MissingWeights(
                "r-pnn starts from a pre-trained network: give weights=FILE or a name (torchspectral weights list)"
            )
        order = self.order_of(stack)
        net = self.build(running.get("network") or state, stack.pan.device, seed)
        optimiser = torch.optim.Adam(net.parameters(), lr=self.settings.learning_rate)
        if running:
            optimiser.load_state_dict(running["optimiser"])
        networks = running.get("networks")
        if networks is None:
            networks = self.room_for_networks(stack)
        guard = Guard.unpack(running["guard"]) if running else Guard(stack.bands)
        trace = Trace(running.get("trace"))
        counts = self.iterations(stack.wavelength, order)
        guide = _Guide(self, stack)
        for place in range(int(running.get("place", 0)), len(order)):
            band = order[place]
            out = self._one_band(
                net, optimiser, stack, band, counts[place], guide, trace, self._alpha(stack, order, place)
            )
            networks[band] = flatten(net)
            self.judge(guard, stack, band, out, guide.field, iterations=counts[place])
            if place + 1 < len(order):
                kept: dict[str, Any] = {
                    "place": place + 1,
                    "network": dict(net.state_dict()),
                    "optimiser": optimiser.state_dict(),
                    "networks": networks,
                    "guard": guard.pack(),
                    "trace": trace.rows(),
                }
                yield {"running": kept}, (place + 1) / len(order)
        yield self.finished(stack, networks, guard, trace), 1.0

    def _alpha(self, stack: Stack, order: list[int], place: int) -> float:
        seen = stack.wavelength[order[: place + 1]]
        return float(self.settings.alpha_far if (seen > self.settings.far).any() else self.settings.alpha)

    def _one_band(
        self,
        net: RPNNNetwork,
        optimiser: torch.optim.Optimizer,
        stack: Stack,
        band: int,
        count: int,
        guide: _Guide,
        trace: Trace,
        alpha: float,
    ) -> torch.Tensor:
        """Adapt to one band, leave the best weights in the network, and return their prediction."""
        s, view = self.settings, guide.view
        low, up = view.crop(stack.low(band)), stack.up(band)
        x = self.padded(up, stack.pan)
        threshold = guide.threshold(x) if count else None
        weight = None if stack.valid is None else view.crop(stack.valid)
        limit = s.spectral_quality * float(spectral_loss(view(up), low, weight)) if s.spectral_quality else np.inf
        best, best_within, saved, waited = np.inf, False, None, 0
        for iteration in range(count):
            optimiser.zero_grad()
            out = net(x)
            spectral = spectral_loss(view(out), low, weight)
            structural, plain = structural_loss(guide.field(out), threshold, guide.weight)
            loss = spectral + alpha * structural
            loss.backward()
            optimiser.step()
            now, colour = float(loss.detach()), float(spectral.detach())
            trace.add(band, iteration, colour, float(plain), alpha, now)
            # Where no weights keep the limit, those of the least spectral loss are taken.
            within = colour <= limit
            score = now if within else colour
            if (within and not best_within) or (within == best_within and score < best):
                best, best_within, waited = score, within, 0
                saved = {key: value.clone() for key, value in net.state_dict().items()}
            else:
                waited += 1
                if s.early_stop and waited >= s.early_stop:
                    break
        if saved is not None:
            net.load_state_dict(saved)
        with torch.no_grad():
            final: torch.Tensor = net(x)
        return final


class _Guide:
    """What the PAN gives to all bands."""

    def __init__(self, method: RPNN, stack: Stack) -> None:
        ratio = stack.ratio
        self.view = method.view(ratio)
        self.scope = method._shape.scope
        self.half = 3 * ratio
        self.clip_cross = True
        self.field = LocalCorrelation(stack.pan, -(-ratio // 2), clip_cross=True)
        self.weight = stack.fine_valid
        s = self.scope
        padded = torch.nn.functional.pad(stack.pan, (s, s, s, s), mode="reflect")
        kernel = mtf_kernel(float(ratio), method._mtf, 41, normalize=not method.as_authors)
        self.smooth = reflected_filter(padded, kernel)

    def threshold(self, x: torch.Tensor) -> torch.Tensor:
        """Allowed structural loss of a band, from the padded input of the network."""
        wide = correlation_threshold(x[:, :1], self.smooth, self.half, clip_cross=True)
        cut = slice(self.scope, -self.scope)
        return wide[..., cut, cut]
