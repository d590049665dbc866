"""HySure: fusion in a subspace with vector total variation."""

from __future__ import annotations

from typing import ClassVar

import torch

from torchspectral.engine.method import SceneInfo, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.ops.vca import vca
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import Injection, InjectionSettings
from torchspectral.sharpening.variational.admm import fuse_in_subspace
from torchspectral.sharpening.variational.response import BEFORE, KERNEL, spatial_response, spectral_response


class HySureSettings(InjectionSettings):
    """Settings of HySure."""

    p: int = setting(10, "dimensions of the subspace, and endmembers (p)", ge=2, le=64)
    iterations: int = setting(200, "rounds of the alternating direction method", ge=1)
    mu: float = setting(0.05, "penalty of the splitting (mu)", gt=0)
    lambda_m: float = setting(1.0, "weight of the PAN (lambda_m)", ge=0)
    lambda_phi: float = setting(1e-2, "weight of the total variation (lambda_phi)", ge=0)
    draws: int = setting(20, "runs of VCA, of which the one with the largest volume is taken", ge=1)
    pan_low: float = setting(400.0, "shortest wavelength that the PAN sees", unit="nm", gt=0)
    pan_high: float = setting(700.0, "longest wavelength that the PAN sees", unit="nm", gt=0)
    covered: int = setting(
        0, "number of leading bands that the PAN covers, instead of its wavelengths; 0: not used", ge=0
    )


class HySure(Injection):
    """Hyperspectral superresolution by subspace regularisation.

    The image is E X with p endmembers E; X explains the bands through an estimated blur, and the PAN through estimated
    spectral weights, and has little vector total variation. Blur and weights are estimated from the two images. The
    scene is worked on at once: memory grows with p images of the PAN's size, not with the bands.
    ``compat="authors-code"`` compares the images at offset 1 whatever the ratio, applies the estimated blur mirrored,
    and mirrors VCA's projections.

    References
    ----------
    Simoes, Bioucas-Dias, Almeida, Chanussot, "A convex formulation for hyperspectral image superresolution via
    subspace-based regularization", IEEE TGRS 53 (2015).
    """

    Settings: ClassVar[type[Settings]] = HySureSettings
    scope = Scope.SCENE
    needs_fit = True

    def prepare(self, info: SceneInfo) -> None:
        """Check the ratio."""
        self.check_ratio(info)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Keep the seed of VCA's draws."""
        return {"seed": int(seed)}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Estimate the responses, then solve."""
        fused = [
            self._fuse(low, pan[0], tile.info, int(state["seed"]))
            for low, pan in zip(tile["cube"], tile["pan"], strict=True)
        ]
        return {"cube": torch.stack(fused)}

    def _fuse(self, low: torch.Tensor, pan: torch.Tensor, info: SceneInfo, seed: int) -> torch.Tensor:
        s, ratio = self.settings, pan.shape[-1] // low.shape[-1]
        offset = 1 if self.as_authors else ratio // 2
        peak = float(low.max())
        if not peak > 0:
            return low.new_zeros(low.shape[0], *pan.shape)
        bands, fine = low.double() / peak, pan.double() / peak
        if not self.as_authors:
            level = float(fine.mean())
            fine = fine * (float(bands.mean()) / level) if level > 0 else fine
        response = spectral_response(bands, fine, ratio, offset, self._covered(info, low.device))
        flat = bands.flatten(1)
        axes = torch.linalg.eigh(flat @ flat.T).eigenvectors.flip(1)[:, : min(s.p, *flat.shape)]
        clean = axes @ (axes.T @ flat)
        blur = spatial_response((response @ clean).reshape(low.shape[1:]), fine, ratio, offset)
        blur = _footprint(ratio, fine) if blur is None or not float(blur.sum()) > 0 else blur
        total = float(blur.sum()) if blur.shape[0] == KERNEL else 1.0
        before = BEFORE if blur.shape[0] == KERNEL else blur.shape[0] // 2
        if not self.as_authors:  # what is estimated weighs pixels ahead; the solver convolves, which looks back
            blur, before = blur.flip(0, 1), blur.shape[0] - 1 - before
        blur, response = blur / blur.sum(), response / total
        endmembers = self._endmembers(flat, low.shape[1:], seed)
        dtype = low.dtype
        weights = fuse_in_subspace(
            (endmembers.T @ clean).reshape(-1, *low.shape[1:]).to(dtype),
            fine.to(dtype),
            endmembers,
            response,
            blur.to(dtype),
            ratio=ratio,
            offset=offset,
            before=before,
            iterations=s.iterations,
            mu=s.mu,
            lambda_m=s.lambda_m,
            lambda_phi=s.lambda_phi,
        )
        mixing = (axes @ (axes.T @ endmembers) * peak).to(dtype)
        return torch.einsum("bp,pyx->byx", mixing, weights)

    def _covered(self, info: SceneInfo, device: torch.device) -> torch.Tensor:
        s = self.settings
        everything = torch.arange(info.bands, device=device)
        if s.covered:
            return everything[: s.covered]
        wavelength = torch.as_tensor(info.wavelength, device=device)
        inside = (wavelength >= s.pan_low) & (wavelength <= s.pan_high)
        return everything[inside] if bool(inside.any()) else everything

    def _endmembers(self, pixels: torch.Tensor, shape: tuple[int, ...], seed: int) -> torch.Tensor:
        """Endmembers (band, p), the largest volume of some draws."""
        p = min(self.settings.p, *pixels.shape)
        if self.as_authors:
            ordered = pixels.reshape(-1, *shape).transpose(1, 2).flatten(1)  # column by column
            return mirrored_vca(ordered, p, self.settings.draws, seed)
        best, largest = None, -1.0
        while best is None:
            for draw in range(self.settings.draws):
                try:
                    found = vca(pixels, p, seed + draw).endmembers.T if p > 1 else pixels.mean(1, keepdim=True)
                except BadInput:
                    break  # the scene spans fewer dimensions
                volume = float(torch.linalg.svdvals(found).clamp_min(1e-300).log().sum())
                if best is None or volume > largest:
                    best, largest = found, volume
            p -= 1
        return best

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes beside the inputs: some fine images of p components with their spectra, the output, coarse copies."""
        fine = size.rows * size.cols * size.zoom**2
        coarse = size.bands * size.rows * size.cols
        p = min(self.settings.p, size.bands)
        return {"fit": 0, "apply": 4 * fine * (14 * p + size.bands) + 8 * 12 * fine + 32 * coarse}


def mirrored_vca(pixels: torch.Tensor, p: int, draws: int, seed: int) -> torch.Tensor:
    """VCA as the benchmark's code has it: always the subspace of p - 1 dimensions, mirrored at the mean."""
    generator = torch.Generator().manual_seed(seed)
    mean = pixels.mean(1, keepdim=True)
    centred = pixels - mean
    axes = torch.linalg.svd(centred @ centred.T / pixels.shape[1])[0][:, : p - 1]
    x = -axes.T @ centred
    y = torch.cat([x, x.norm(dim=0).max().expand(1, x.shape[1])])
    best, largest = axes, -1.0
    for _ in range(draws):
        vertices = y.new_zeros(p, p)
        vertices[p - 1, 0] = 1.0
        index = []
        for number in range(p):
            draw = torch.rand(p, dtype=torch.float64, generator=generator).to(y.device)
            rest = draw - vertices @ (torch.linalg.pinv(vertices) @ draw)
            at = int((rest / rest.norm() @ y).abs().argmax())
            vertices[:, number] = y[:, at]
            index.append(at)
        found = axes @ x[:, index] + mean
        volume = float(torch.linalg.det(found.T @ found).abs())
        if volume > largest:
            best, largest = found, volume
    return best


def _footprint(ratio: int, like: torch.Tensor) -> torch.Tensor:
    """Box of a coarse pixel, where the scene is too small to estimate a kernel or holds no texture."""
    side = min(ratio, *like.shape)
    return like.new_ones(side, side) / side**2
