"""FastHyDe and FastHyIn: the leading eigen-images of a scene are denoised one by one; missing values are inpainted."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F

from torchspectral.engine.method import (
    AnySettings,
    Gram,
    Input,
    Method,
    Output,
    SceneInfo,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadInput, BadSettings
from torchspectral.ops.gram import add_sums, covariance, eigh_descending, gram_sums
from torchspectral.restoration.classical.hyde.eigen_denoisers import EigenDenoiser, EigenDenoiserSettings
from torchspectral.restoration.classical.hyde.units import Units, project, units_of, unproject
from torchspectral.restoration.robust import LEAST_SHARE, outlier_share
from torchspectral.restoration.subspace import is_flat, live_bands, noise_of
from torchspectral.settings import setting


class FastHyDeSettings(EigenDenoiserSettings):
    """FastHyDe."""

    k: int | None = setting(10, "dimensions of the subspace; None: those above what noise alone would have", ge=1)
    noise: Literal["auto", "gaussian", "noniid", "poisson"] = setting(
        "auto",
        "noise that is the same in all bands, differs from band to band, or grows with the signal; auto: noniid, but "
        "gaussian where more than 0.5 % of the values are outliers, which would pass for noise of their bands",
    )
    gain: float | None = setting(
        None, "value of one photon with noise=poisson; None: from the noise and the mean of each band", gt=0
    )


class FastHyDe(Method):
    """Denoising of eigen-images.

    The subspace of the scene is spanned by the leading eigenvectors of its second moments (of bands divided by their
    noise where that differs between them); each eigen-image has noise of known variance, and a denoiser of single images
    cleans it. Poisson noise is first made Gaussian by Anscombe's
    transform, and turned back by the closed form of its exact unbiased inverse.

    State
    -----
    offset : Tensor, shape (bands,)
        Constant bands; 0 for the others.
    forward, inverse : Tensor, shapes (k, bands) and (bands, k)
        Pixels less the offset to eigen-images of unit noise, and back.
    noise : Tensor, shape (bands,)
        Standard deviations; of Anscombe's transform with noise=poisson.
    kind : str
        The noise that was assumed.
    gain : float
        Value of one photon, 0 where the noise is not Poisson's.

    References
    ----------
    Zhuang and Bioucas-Dias, "Fast hyperspectral image denoising and inpainting based on low-rank and sparse
    representations", IEEE JSTARS 11(3), 2018, algorithm 1. Makitalo and Foi, "A closed-form approximation of the exact
    unbiased inverse of the Anscombe variance-stabilizing transformation", IEEE TIP 20(9), 2011.
    """

    Settings = FastHyDeSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys: tuple[str, ...] = ("offset", "forward", "inverse", "noise")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.denoiser = EigenDenoiser(self.settings)
        self.halo, self.multiple = self.denoiser.halo, self.denoiser.multiple

    def prepare(self, info: SceneInfo) -> None:
        """Patches no larger than the scene."""
        self.denoiser.fit_to(info.shape)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Subspace from sums over the pixels; two passes with Poisson noise."""
        if state is not None and "forward" in state:
            return state
        units, gain = self._units(source)
        return self._subspace(units, self._kind(source)) | {"gain": gain}

    def _kind(self, source: Source) -> str:
        if self.settings.noise != "auto":
            return str(self.settings.noise)
        gram = source.gram()
        if is_flat(gram.mean, gram.covariance):
            return "noniid"
        return "gaussian" if outlier_share(source, gram) > LEAST_SHARE else "noniid"

    def _units(self, source: Source) -> tuple[Units, float]:
        if self.settings.noise != "poisson":
            return units_of(source), 0.0
        gain = self.settings.gain or photon(units_of(source))

        def sums(tile: Tile) -> tuple[int, torch.Tensor, torch.Tensor]:
            return gram_sums(anscombe(tile.core_pixels("cube"), gain))

        n, total, cross = source.reduce(sums, add_sums)
        return units_of(source, Gram(n, total, cross), torch.ones(len(total), dtype=total.dtype)), gain

    def _subspace(self, units: Units, kind: str) -> State:
        live, k = units.live, self.settings.k or units.rank
        if not len(live):
            empty = units.mean.new_zeros(0, 1)
            forward, inverse = units.there(empty), units.back(empty)
        elif kind == "noniid":
            vectors = eigh_descending(units.white)[1][:, :k]
            forward, inverse = units.there(vectors), units.back(vectors)
        else:
            vectors = eigh_descending(units.power)[1][:, :k]
            level = (vectors * units.noise[live, None]).square().sum(0).sqrt()
            weights = units.noise[live, None]
            forward, inverse = units.there(vectors * weights / level), units.back(vectors * level / weights)
        return {"offset": units.offset, "forward": forward, "inverse": inverse, "noise": units.noise, "kind": kind}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Project, denoise, and turn back, (n, bands, y, x)."""
        gain = float(state.get("gain", 0.0))
        cube = anscombe(tile["cube"], gain) if gain else tile["cube"]
        images = project(cube, state)
        out = unproject(torch.stack([self.denoiser(one) for one in images]), state)
        return {"cube": inverse_anscombe(out, gain) if gain else out}

    def memory(self, size: Size) -> dict[str, int]:
        """A centred copy, the eigen-images and the answer, and what the denoiser takes."""
        k = min(self.settings.k or 40, size.bands)
        apply = size.rows * size.cols * (4 * size.bands + 3 * k) * 4 + self.denoiser.memory(size.rows, size.cols, k)
        return {"fit": 3 * size.rows * size.cols * size.bands * 4, "apply": apply}

    def figures(self, state: State) -> dict[str, Any]:
        """Dimensions and median noise."""
        out: dict[str, Any] = {"rank": len(state["forward"]), "noise": str(state.get("kind", ""))}
        out["median_noise"] = float(f"{float(state['noise'].median()):.6g}")
        if float(state.get("gain", 0.0)):
            out["photon"] = float(f"{float(state['gain']):.6g}")
        return out


def photon(units: Units) -> float:
    """Value of one photon: slope of the noise variance over the mean of the bands, through the origin.

    Raises
    ------
    BadInput
        The means are not above zero.
    """
    mean = units.mean.clamp_min(0)
    slope = float((units.noise.square() * mean).sum() / mean.square().sum().clamp_min(1e-300))
    if slope <= 0:
        raise BadInput("noise=poisson needs bands with a mean above 0 and some noise: take noise=noniid, or set gain")
    return slope


def anscombe(values: torch.Tensor, gain: float) -> torch.Tensor:
    """2 sqrt(counts + 3/8), whose noise has variance one; negative counts are taken as zero."""
    return 2 * (values / gain + 0.375).clamp_min(0).sqrt()


def inverse_anscombe(values: torch.Tensor, gain: float) -> torch.Tensor:
    """Closed form of the exact unbiased inverse; 0 below the transform of 0."""
    d = values.clamp_min(2 * math.sqrt(0.375))
    root = math.sqrt(1.5)
    counts = d.square() / 4 + root / 4 / d - 11 / 8 / d.square() + 5 * root / 8 / d**3 - 1 / 8
    return counts.clamp_min(0) * gain


class FastHyInSettings(FastHyDeSettings):
    """FastHyIn."""

    missing: float | None = setting(
        None, "value that stands for missing beside NaN, in the scene's units: 0 for dead lines"
    )
    reach: int = setting(
        8,
        "pixels without any observed band are filled from this far around before denoising",
        unit="pixel",
        ge=1,
        le=64,
    )


class FastHyIn(FastHyDe):
    """Denoising and inpainting of eigen-images: pixels that miss some bands.

    The subspace comes from the pixels that miss nothing. Each other pixel's coefficients are those that explain its
    observed bands best, with the power of each eigen-image over the scene as a prior where they are too few; then all
    eigen-images are denoised as in FastHyDe. Pixels without any band stay nodata.

    References
    ----------
    Zhuang and Bioucas-Dias, "Fast hyperspectral image denoising and inpainting based on low-rank and sparse
    representations", IEEE JSTARS 11(3), 2018, algorithm 2.
    """

    Settings = FastHyInSettings
    fill = "none"
    state_keys = ("offset", "forward", "inverse", "noise", "prior")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        if self.settings.noise == "poisson" and self.settings.gain is None:
            raise BadSettings("got noise=poisson without a gain: with missing values it must be set")
        self.halo += -(-self.settings.reach // self.multiple) * self.multiple

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Subspace from the complete pixels."""
        if state is not None and "forward" in state:
            return state
        gain = float(self.settings.gain or 0.0) if self.settings.noise == "poisson" else 0.0

        def sums(tile: Tile) -> tuple[int, torch.Tensor, torch.Tensor]:
            cube = self._observed(tile.core("cube"), gain)[0].flatten(1)
            return gram_sums(cube[:, torch.isfinite(cube).all(0)])

        n, total, cross = source.reduce(sums, add_sums)
        if n < 2:
            raise BadInput(
                f"got {n} pixels without a missing band, expected at least 2 for the subspace: drop the bands that are "
                "missing everywhere"
            )
        spread = covariance(n, total, cross)
        live, _ = live_bands(spread)
        known = torch.ones(len(total), dtype=total.dtype) if gain else None
        if known is None and (len(live) < 2 or n < 2 * len(live)):
            known = torch.zeros_like(total)
            known[live] = noise_of(n, spread, live)
        units = units_of(source, Gram(n, total, cross), known)
        found = self._subspace(units, "noniid" if self.settings.noise == "auto" else str(self.settings.noise))
        power = units.spread + torch.outer(units.mean, units.mean)
        prior = (found["forward"] @ power @ found["forward"].T).diagonal().clamp_min(1e-6)
        return found | {"gain": gain, "prior": prior}

    def _observed(self, cube: torch.Tensor, gain: float) -> torch.Tensor:
        if self.settings.missing is not None:
            cube = cube.masked_fill(cube == self.settings.missing, torch.nan)
        return anscombe(cube, gain) if gain else cube

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Solve for the incomplete pixels, denoise all, and turn back, (n, bands, y, x)."""
        gain = float(state.get("gain", 0.0))
        cube = self._observed(tile["cube"], gain)
        seen = torch.isfinite(cube)
        offset = state["offset"].to(cube.device, cube.dtype)[:, None, None]
        images = project(torch.where(seen, cube, offset), state)
        for one, image, known in zip(cube, images, seen, strict=True):
            self._solve(one, image, known, state)
        images = _filled(images, seen.any(1, keepdim=True), self.settings.reach)
        out = unproject(torch.stack([self.denoiser(one) for one in images]), state)
        return {"cube": inverse_anscombe(out, gain) if gain else out}

    def _solve(self, cube: torch.Tensor, images: torch.Tensor, seen: torch.Tensor, state: State) -> None:
        """Coefficients of the pixels that miss some bands, in place; pixels with the same gaps are solved together."""
        partial = (seen.any(0) & ~seen.all(0)).nonzero()
        if not len(partial):
            return
        rows, cols = partial.T
        noise = state["noise"].to(cube.device).double()
        weight = torch.where(noise > 0, 1 / noise.clamp_min(1e-300), 0.0)
        basis = state["inverse"].to(cube.device).double() * weight[:, None]
        prior = torch.diag(1 / state["prior"].to(cube.device).double())
        pixels = (cube[:, rows, cols].double() - state["offset"].to(cube.device).double()[:, None]) * weight[:, None]
        known = seen[:, rows, cols]
        patterns, group = known.unique(dim=1, return_inverse=True)
        order = group.argsort(stable=True)
        counts = torch.bincount(group, minlength=patterns.shape[1]).tolist()
        for pattern, members in zip(patterns.T, order.split(counts), strict=True):
            part = basis[pattern]
            found = torch.linalg.solve(part.T @ part + prior, part.T @ pixels[pattern][:, members])
            images[:, rows[members], cols[members]] = found.to(images.dtype)


def _filled(images: torch.Tensor, seen: torch.Tensor, reach: int) -> torch.Tensor:
    """Pixels without any observation from the mean of those within `reach`; zero beyond."""
    if bool(seen.all()):
        return images
    side = 2 * reach + 1
    weight = seen.to(images.dtype)
    total, count = (F.avg_pool2d(v, side, 1, reach, divisor_override=1) for v in (images * weight, weight))
    return torch.where(seen, images, total / count.clamp_min(1))
