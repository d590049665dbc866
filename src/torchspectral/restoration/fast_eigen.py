"""Fast-eigen: denoise the few eigen-images of a scene in units of its noise, all by one block matching."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any, Literal

import torch
from pydantic import field_validator

from torchspectral.engine.method import (
    AnySettings,
    BandRule,
    Input,
    Method,
    Output,
    Round,
    SceneInfo,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadInput, BandMismatch
from torchspectral.ops.block_matching import match_patches
from torchspectral.ops.collaborative import collaborative_filter
from torchspectral.ops.gram import covariance
from torchspectral.restoration.given_back import CLEAR, give, shares_to_give
from torchspectral.restoration.robust import LEAST_SHARE, outlier_share, robust_rounds
from torchspectral.restoration.subspace import at_most, eigen_state, is_flat, neighbour_sums
from torchspectral.settings import Settings, setting


class FastEigenSettings(Settings):
    """Fast-eigen."""

    rank: int | None = setting(None, "eigen-images to keep; None: those above what noise alone would have", ge=1)
    robust: Literal["auto", "on", "off"] = setting(
        "auto", "whether stripes, dead columns and single outliers are modelled; auto: where more than 0.5 % stand out"
    )
    loops: int = setting(12, "rounds of the robust loop", ge=1)
    patch: int = setting(8, "side of the patches", unit="pixel", ge=3, le=32)
    step: int = setting(4, "distance of the reference patches", unit="pixel", ge=1, le=32)
    search: int = setting(10, "largest shift of a similar patch", unit="pixel", ge=1, le=64)
    similar: int = setting(16, "patches of a group in the first pass", ge=2, le=256)
    similar_second: int = setting(32, "patches of a group in the second pass", ge=2, le=256)
    threshold: float = setting(3.5, "coefficients below this many standard deviations are dropped", ge=0)
    likeness: float = setting(
        0.08,
        "largest correlation of neighbours, across and along track, in what is removed from bands of more than 30 dB: "
        "what they have more in common is given back; 1: nothing is",
        ge=0,
        le=1,
    )

    @field_validator("robust", mode="before")
    @classmethod
    def _as_word(cls, value: Any) -> Any:
        """YAML, and with it the command line, reads on and off as truth values."""
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class FastEigen(Method):
    """Denoising of whitened eigen-images by one collaborative filter.

    The noise of each band is what regression on the others leaves, less the noise that the others bring along; pixels
    are divided by it, and the components whose variance lies above what noise alone would have are kept. These few
    images, all with noise of variance one, share one block matching and are filtered group by group in a cosine
    transform, first by a threshold, then by an empirical Wiener filter. Where outliers are many, a loop before it models
    stripes and dead columns of each band and replaces single outliers.

    What is removed from clear bands, those of more than 30 dB, is then held to white noise: where its neighbours are more
    alike than `likeness`, as those of resampled noise are, and as those of lost signal would be, the least share of the
    smoothed removed part that mends this goes back into the scene (3 x 3 pixels, see `given_back`).

    State
    -----
    mean : Tensor, shape (bands,)
    forward, inverse : Tensor, shapes (k, bands) and (bands, k)
        Pixels less the mean to eigen-images of unit noise, and back.
    noise : Tensor, shape (bands,)
        Standard deviation in the cube's units.
    rank : int
    eigenvalues : list of float
    robust : bool
    given : Tensor, shape (2, bands)
        Shares of the removed part, smoothed across and along track, that go back.
    bands : dict of str to list
        The table below, by column.

    Outputs
    -------
    cube
    bands : table, one row a band
        ``wavelength`` [nm], ``noise`` (standard deviation, the cube's units), ``snr`` [dB], ``given_back`` (share of the
        variance of what was removed), and where the robust loop ran ``replaced`` (share of the values that it took for
        outliers).

    References
    ----------
    Zhuang and Bioucas-Dias, "Fast hyperspectral image denoising and inpainting based on low-rank and sparse
    representations", IEEE JSTARS 11(3), 2018 (denoising of eigen-images). Dabov et al., "Image denoising by sparse 3-D
    transform-domain collaborative filtering", IEEE TIP 16(8), 2007. Bioucas-Dias and Nascimento, "Hyperspectral subspace
    identification", IEEE TGRS 46(8), 2008 (noise).
    """

    Settings = FastEigenSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"), Output("bands", kind="table", from_state=True))
    scope = Scope.LOCAL
    bands = BandRule()
    needs_fit = True
    starts_from_state = True
    state_keys = ("mean", "forward", "inverse", "noise", "rank", "bands")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.patch = int(self.settings.patch)

    def prepare(self, info: SceneInfo) -> None:
        """Patches no larger than the scene.

        Raises
        ------
        BadInput
            More components are asked for than there are bands.
        """
        at_most("rank", self.settings.rank, len(info.wavelength))
        self.patch = max(1, min(self.settings.patch, *info.shape))

    @property
    def halo(self) -> int:  # type: ignore[override]
        """A pixel hears of patches over it, their groups, the same again in the second pass, and of its neighbours."""
        reach = 2 * (self.settings.patch - 1 + 2 * self.settings.search) + 1
        return math.ceil(reach / self.settings.step) * self.settings.step

    @property
    def multiple(self) -> int:  # type: ignore[override]
        """Reference patches lie on one grid over the scene."""
        return int(self.settings.step)

    def fit(self, source: Source, seed: int, state: State | None) -> State | Iterator[Round]:
        """Noise and subspace from two passes of sums; robust rounds where needed."""
        if state is not None and "forward" in state and not state.get("robust"):
            return state
        if state is not None and "rounds" in state:
            # What the rounds repaired is no part of the state: without it they begin again.
            begun = "repaired" in next(iter(source.tiles()))
            return self._robust(source, state if begun else None)
        gram = source.gram()
        wanted = "off" if is_flat(gram.mean, gram.covariance) else self.settings.robust
        if wanted == "on" or (wanted == "auto" and gram.n > 1 and outlier_share(source, gram) > LEAST_SHARE):
            return self._robust(source, None)
        n, total, cross = gram.n, gram.total.cpu(), gram.cross.cpu()
        if n < 2:
            raise BadInput(f"got {n} valid pixels, expected at least 2: check the mask and nodata")
        spread = covariance(n, total, cross)
        pairs = None
        if self.settings.rank is None:
            pairs = source.reduce(partial(neighbour_sums, role="cube"), torch.add)
        found = eigen_state(n, total / n, spread, None, self.settings.rank, None, pairs)
        return self._given(self._told(found, source, spread, robust=False), source)

    def _robust(self, source: Source, state: State | None) -> Iterator[Round]:
        for found, spread, done in robust_rounds(source, self.settings, self.denoise, state):
            told = self._told(found, source, spread, robust=True)
            yield (told if done < 1 else self._given(told, source)), done

    def _given(self, state: State, source: Source) -> State:
        """What goes back of the removed part of clear bands; the cleaned images are kept for `apply`."""
        clear = [b for b, snr in enumerate(state["bands"]["snr"]) if snr is not None and snr > CLEAR]
        shares, back = torch.zeros(2, len(state["mean"])), torch.zeros(len(state["mean"]))
        if clear and self.settings.likeness < 1:
            chosen = torch.tensor(clear)
            source.map("cleaned", partial(self._cleaned_tile, state=state))
            found = shares_to_give(
                source, partial(self._removed, state=state, bands=chosen), chosen, self.settings.likeness
            )
            shares[:, chosen], back[chosen] = (values.float() for values in found)
        table = {**state["bands"], "given_back": [round(v, 4) for v in back.tolist()]}
        return {**state, "given": shares, "bands": table}

    def _told(self, found: State, source: Source, spread: torch.Tensor, *, robust: bool) -> State:
        power = found["mean"].square() + spread.diagonal() - found["noise"].square()
        snr = [
            round(10 * math.log10(p / s**2), 3) if s > 0 and p > 0 else None
            for p, s in zip(power.tolist(), found["noise"].tolist(), strict=True)
        ]
        table: dict[str, list[Any]] = {
            "wavelength": [float(w) for w in source.info.wavelength],
            "noise": [float(f"{s:.6g}") for s in found["noise"].tolist()],
            "snr": snr,
        }
        if robust:
            table["replaced"] = [round(float(v), 6) for v in found["replaced"]]
        return {**found, "robust": robust, "bands": table}

    def denoise(self, cube: torch.Tensor, state: State, *, second: bool = True) -> torch.Tensor:
        """Denoise (n, bands, y, x) with a state; one pass only without `second`."""
        return self._turned_back(self._cleaned(cube, state, second=second), state)

    def _cleaned(self, cube: torch.Tensor, state: State, *, second: bool = True) -> torch.Tensor:
        """Filtered eigen-images, (n, k, y, x)."""
        mean, forward = (state[key].to(cube.device, cube.dtype) for key in ("mean", "forward"))
        if len(mean) != cube.shape[1]:
            raise BandMismatch(
                f"the subspace was fitted on {len(mean)} bands and the cube has {cube.shape[1]}, expected the same: fit "
                "it on this scene"
            )
        images = torch.einsum("kb,nbyx->nkyx", forward, cube - mean[:, None, None])
        return torch.stack([self._filtered(one, second) for one in images])

    def _cleaned_tile(self, tile: Tile, state: State) -> torch.Tensor:
        return self._cleaned(_noisy(tile), state)

    def _removed(self, tile: Tile, state: State, bands: torch.Tensor) -> torch.Tensor:
        rest = _noisy(tile)[:, bands] - self._turned_back(tile["cleaned"], state, bands)
        return rest.where(tile.valid, 0.0)

    @staticmethod
    def _turned_back(images: torch.Tensor, state: State, bands: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        mean, inverse = (state[key][bands].to(images.device, images.dtype) for key in ("mean", "inverse"))
        return torch.einsum("bk,nkyx->nbyx", inverse, images).add_(mean[:, None, None])

    def _filtered(self, images: torch.Tensor, second: bool) -> torch.Tensor:
        s, patch = self.settings, min(self.patch, *images.shape[1:])
        steps = {"patch": patch, "step": s.step, "search": s.search}
        groups = match_patches(images, count=s.similar, **steps)
        first = collaborative_filter(images, groups, patch=patch, threshold=s.threshold)
        if not second:
            return first
        groups = match_patches(first, count=s.similar_second, **steps)
        return collaborative_filter(images, groups, patch=patch, guide=first)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Project, filter, turn back, and give back, (n, bands, y, x)."""
        images = tile["cleaned"] if "cleaned" in tile else self._cleaned_tile(tile, state)
        cube = self._turned_back(images, state)
        given = state.get("given")
        if given is not None and bool((given > 0).any()):
            bands = (given > 0).any(0).nonzero()[:, 0].to(cube.device)
            removed = (_noisy(tile)[:, bands] - cube[:, bands]).where(tile.valid, 0.0)
            cube[:, bands] += give(removed, given[:, bands])
        return {"cube": cube}

    def memory(self, size: Size) -> dict[str, int]:
        """A centred copy and the answer; distances of all shifts; eigen-images in float64."""
        pixels = size.rows * size.cols
        shifts = (2 * self.settings.search + 1) ** 2 / self.settings.step**2
        kept = min(size.bands, self.settings.rank or 40)
        apply = int(pixels * (3 * size.bands + 3 * shifts + 12 * kept) * 4) + (512 << 20)
        return {"fit": apply, "apply": apply}

    def figures(self, state: State) -> dict[str, Any]:
        """Rank, whether the robust loop ran, medians over the bands, and what was given back."""
        out: dict[str, Any] = {"rank": state["rank"], "robust": bool(state.get("robust"))}
        for key in ("noise", "snr", "replaced"):
            known = [v for v in state["bands"].get(key, []) if v is not None]
            if known:
                out[f"median_{key}"] = median(known)
        back = [v for v in state["bands"].get("given_back", []) if v > 0]
        out["given_back_bands"] = len(back)
        if back:
            out["median_given_back"] = median(back)
            out["warnings"] = [
                f"given back: {median(back):.0%} of the removed variance (median of {len(back)} bands of more than "
                f"{CLEAR:.0f} dB), for its neighbours were alike by more than {self.settings.likeness}"
            ]
        return out


def _noisy(tile: Tile) -> torch.Tensor:
    """What is denoised: the scene, or what the robust loop made of it."""
    return tile["repaired"] if "repaired" in tile else tile["cube"]
