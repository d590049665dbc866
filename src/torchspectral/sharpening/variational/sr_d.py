"""SR-D: sparse representation of the details."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import SceneInfo, Size, Source, State, Tile
from torchspectral.errors import BadSettings
from torchspectral.ops.axis import AxisOperator, apply, correlation
from torchspectral.ops.interpolate import decimate, decimation_operator, ideal_operator, interpolation_halo
from torchspectral.ops.mtf import kernel_size, mtf_filter, mtf_kernel, separable_terms
from torchspectral.ops.omp import pursue
from torchspectral.ops.resize import imresize
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import Injection, SensorSettings, check_count, merge_sums, safe_ratio
from torchspectral.sharpening.upsampled import Upsampled

CHUNK = 1024
"""Patches coded at a time."""

LEAST = 1e-6
"""Norm of an atom, as a share of the PAN's standard deviation, below which a patch of the PAN holds no detail."""

ROUNDING = 3e-6
"""The same as a share of the PAN's mean: what filters leave of a constant, whose kernels are sums of a few separable ones."""

_BICUBIC_REACH = 3
_SINGULAR = 0.1


class SRDSettings(SensorSettings):
    """Settings of SR-D."""

    compat: Literal["", "authors-code", "authors-kernels"] = setting(  # type: ignore[assignment]
        "",
        "'authors-code': as the benchmark's code, which codes every patch as if it were the first; 'authors-kernels': its "
        "kernels, border and test of the normal equations, but each patch is coded for itself",
    )
    patch: int = setting(7, "side of a patch", unit="coarse pixel", ge=3, le=32)
    overlap: int = setting(4, "pixels that neighbouring patches share", unit="coarse pixel", ge=0)
    atoms: int = setting(10, "atoms in each patch's code", ge=1, le=64)


@lru_cache(maxsize=64)
def _seen_operators(
    rows: int, cols: int, ratio: int, gain: float, normalize: bool, border: str
) -> tuple[tuple[AxisOperator, AxisOperator], ...]:
    """Interpolation, MTF and decimation in one, coarse to coarse: pairs whose applications add up."""

    def one(size: int, taps: Any) -> AxisOperator:
        fine = size * ratio
        return decimation_operator(fine, ratio) @ correlation(fine, taps, "edge") @ ideal_operator(size, ratio, border)

    kernel = mtf_kernel(ratio, gain, normalize=normalize)
    return tuple((one(rows, down), one(cols, across)) for down, across in separable_terms(kernel))


class SRD(Injection):
    """Sparse representation of details: what the MTF took from each patch is coded with details of the PAN.

    The dictionary holds all patches of the PAN's detail, as the hyperspectral sensor sees them and as they are. Each
    patch of the bands' coarse detail is coded by orthogonal matching pursuit that starts with the PAN's patch of the
    same place; one choice of atoms serves all bands, each with its own coefficients. Overlapping patches are averaged.

    ``compat="authors-code"`` codes every patch against the detail of the first one and pastes that everywhere, as the
    benchmark's code does.

    References
    ----------
    Vicinanza, Restaino, Vivone, Dalla Mura, Chanussot, "A pansharpening method based on the sparse representation of
    injected details", IEEE GRSL 12 (2015).
    """

    Settings: ClassVar[type[Settings]] = SRDSettings
    needs_fit = True
    uses_mtf = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.overlap >= s.patch:
            raise BadSettings(
                f"got patches of {s.patch} pixels that overlap by {s.overlap}, expected less than a patch"
            )
        self.step = s.patch - s.overlap
        self.multiple = self.step
        self._dictionary = 0

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo: all patches that touch a tile, and what their details depend on."""
        ratio = self.check_ratio(info)
        kernel = -(-(kernel_size(ratio) // 2) // ratio)
        self.halo = self.settings.patch + max(interpolation_halo(ratio) + kernel, 2 * kernel + _BICUBIC_REACH)
        patches = [len(self._starts(n, True)) for n in info.shape]
        self._dictionary = 8 * patches[0] * patches[1] * self.settings.patch**2 * (1 + ratio**2)

    def _starts(self, size: int, ends: bool) -> list[int]:
        """First pixels of the patches along an axis; the last one is moved inward to the scene's end."""
        patch = min(self.settings.patch, size)
        starts = list(range(0, size - patch + 1, self.step))
        if ends and starts[-1] != size - patch:
            starts.append(size - patch)
        return starts

    def _places(self, tile: Tile) -> tuple[list[int], list[int], int, int]:
        """Patches of a tile's window in its own pixels, and their height and width."""
        window, (rows, cols) = tile.window, tile.info.shape
        down = self._starts(window.height, window.row + window.height == rows)
        across = self._starts(window.width, window.col + window.width == cols)
        return down, across, min(self.settings.patch, window.height), min(self.settings.patch, window.width)

    # The details

    def _pan_details(self, pan: torch.Tensor, tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
        """Detail of a PAN, fine, and the same as the coarse sensor sees it; float64."""
        ratio = pan.shape[-1] // tile.window.width
        gain, normalize = self.gain(tile.info), not self.as_authors
        fine = pan.double()
        fine = fine - imresize(mtf_filter(fine, ratio, gain, normalize=normalize, decimated=True), ratio)
        return fine, mtf_filter(fine, ratio, gain, normalize=normalize, decimated=True)

    def _band_details(self, tile: Tile, up: Upsampled) -> torch.Tensor:
        """What the MTF takes from the bands, on the coarse grid, (n, band, y, x), float64."""
        gain, normalize = self.gain(tile.info), not self.as_authors
        if "upsampled" in tile:
            image = tile["upsampled"].double()
            return decimate(image, up.ratio) - mtf_filter(image, up.ratio, gain, normalize=normalize, decimated=True)
        low = tile["cube"].double()
        height, width = low.shape[-2:]
        for pair in _seen_operators(height, width, up.ratio, gain, normalize, self.border):
            low = low - apply(tile["cube"].double(), *pair)
        return low

    # What the scene teaches

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One streaming pass: moments, and the dictionary of the PAN's details."""
        s = source.reduce(self._sums, _merge)
        n = check_count(s["n"], "the PAN")
        mean, pan = s["total"] / n, float(s["pan"] / n)
        variance = ((s["power"] - n * mean.square()) / (n - 1)).clamp_min(0)
        spread = float(s["pan2"] - n * pan**2) / (n - 1)
        level = max(spread, 0.0) ** 0.5 if spread > 1e-13 * pan**2 else 0.0
        slope = safe_ratio(variance.sqrt(), torch.full_like(variance, level))
        return {
            "slope": slope,
            "mean": mean,
            "pan": pan,
            "least": (LEAST * level) ** 2 + (ROUNDING * pan) ** 2,
            "low": s["list_low"],
            "high": s["list_high"],
        }

    def _sums(self, tile: Tile) -> State:
        up = Upsampled(tile, self.border)
        pan = up.masked(up.pan)
        found = {
            "n": torch.tensor(float(up.count), dtype=torch.float64),
            "total": up.total(),
            "power": up.power(),
            "pan": pan.sum(),
            "pan2": pan.square().sum(),
        }
        if self.as_authors:
            return found | {"list_low": pan.new_zeros(0, 0), "list_high": pan.new_zeros(0, 0)}
        fine, seen = self._pan_details(tile["pan"], tile)
        down, across, height, width = self._places(tile)
        top, left = tile.inner.row - tile.window.row, tile.inner.col - tile.window.col
        down = [i for i in down if top <= i < top + tile.inner.height]
        across = [i for i in across if left <= i < left + tile.inner.width]
        low = cut_patches(seen[0, 0], down, across, height, width)
        high = cut_patches(fine[0, 0], *_times(down, across, height, width, up.ratio))
        whole = cut_patches(tile.valid[0, 0], down, across, height, width).all(1)
        return found | {"list_low": low[whole], "list_high": high[whole].float()}

    # Fusion

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Code the patches that touch the core of a tile and add their details."""
        up = Upsampled(tile, self.border)
        image, wanted = up.image(), self._band_details(tile, up)
        details = [self._published(tile, wanted, state)] if self.as_authors else self._coded(tile, wanted, state)
        for number, detail in enumerate(details):
            image[number] += detail.to(image.dtype)
        return {"cube": image}

    def _coded(self, tile: Tile, wanted: torch.Tensor, state: State) -> Iterator[torch.Tensor]:
        """Details of the core, image by image, (band, y, x)."""
        fine, seen = self._pan_details(tile["pan"], tile)
        ratio = fine.shape[-1] // seen.shape[-1]
        down, across, height, width = self._places(tile)
        inner, window = tile.inner, tile.window
        top, left = inner.row - window.row, inner.col - window.col
        down = [i for i in down if i < top + inner.height and i + height > top]
        across = [i for i in across if i < left + inner.width and i + width > left]
        slope = state["slope"].double()
        for number in range(wanted.shape[0]):
            bands = wanted[number]
            total = torch.einsum("b,byx->yx", slope, bands)
            own = cut_patches(seen[number, 0], down, across, height, width)
            signals = cut_patches(total, down, across, height, width)
            high = cut_patches(fine[number, 0], *_times(down, across, height, width, ratio)).float()
            dictionary = state["low"].double().T
            canvas = Canvas(tile, ratio, bands.shape[0], (height, width), state["high"])
            for start in range(0, len(down), max(1, CHUNK // len(across))):
                rows = down[start : start + max(1, CHUNK // len(across))]
                some = slice(start * len(across), (start + len(rows)) * len(across))
                code = pursue(dictionary, signals[some], self.settings.atoms, first=own[some], least=state["least"])
                for place, row in enumerate(rows):
                    line = slice(place * len(across), (place + 1) * len(across))
                    targets = torch.stack([cut_patches(b, [row], across, height, width) for b in bands], 2)
                    part = type(code)(code.index[line], code.basis[line], code.triangle[line])
                    weights = part.coefficients(targets)
                    mine = high[(start + place) * len(across) : (start + place + 1) * len(across)]
                    canvas.paint(row, across, weights, part.index, mine)
            yield canvas.mean()

    def _published(self, tile: Tile, wanted: torch.Tensor, state: State) -> torch.Tensor:
        """As the benchmark's code: bands solved one by one, a code dropped where its normal equations are singular."""
        flat = tile["pan"].double() - state["pan"]
        planes = [self._pan_details(p, tile) for p in (flat, torch.ones_like(flat))]
        ratio = planes[0][0].shape[-1] // planes[0][1].shape[-1]
        down, across, height, width = self._places(tile)
        mean, slope = state["mean"].double(), state["slope"].double()
        # The matched PAN is slope_b (P - mean P) + mean_b: kernels that do not sum to 1 leave detail of the constant.
        lows = [cut_patches(seen[0, 0], down, across, height, width) for _, seen in planes]
        place = _times(down, across, height, width, ratio)
        highs = [cut_patches(fine[0, 0], *place) for fine, _ in planes]
        canvas = Canvas(tile, ratio, len(mean), (height, width), highs[0])
        pasted = self.settings.compat == "authors-code"
        detail = torch.empty(0)
        for number, (row, col) in enumerate((i, j) for i in down for j in across):
            if number == 0 or not pasted:
                target = wanted[0, :, row : row + height, col : col + width].flatten(1)
                chosen, weights = self._code(lows, target, number, slope, mean)
                detail = (weights * slope[:, None]) @ highs[0][chosen] + (weights * mean[:, None]) @ highs[1][chosen]
                detail = detail.reshape(len(mean), height * ratio, width * ratio)
            canvas.add(row, col, detail)
        return canvas.mean()

    def _code(
        self, lows: list[torch.Tensor], target: torch.Tensor, first: int, slope: torch.Tensor, mean: torch.Tensor
    ) -> tuple[list[int], torch.Tensor]:
        """Atoms of one patch (band, pixel), an atom as often as it wins, and their weights (band, atom)."""
        chosen, residual = [first], target
        for step in range(self.settings.atoms):
            if step:
                match = lows[0] @ (slope @ residual) + lows[1] @ (mean @ residual)
                chosen.append(int(match.abs().argmax()))
            q, e = (low[chosen] for low in lows)
            atoms = slope[:, None, None] * q + mean[:, None, None] * e
            gram = atoms @ atoms.transpose(1, 2)
            regular = torch.linalg.det(gram) > _SINGULAR
            weights = mean.new_zeros(len(mean), len(chosen))
            if bool(regular.any()):
                right = atoms[regular] @ target[regular][:, :, None]
                weights[regular] = torch.linalg.solve(gram[regular], right)[:, :, 0]
            residual = target - (weights[:, None] @ atoms)[:, 0]
        return chosen, weights

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes beside the inputs: the dictionary, the coarse details in float64 and the fine canvas."""
        usual = super().memory(size)
        fine = size.bands * size.rows * size.cols * size.zoom**2
        patches = max(1, size.cols // self.step + 1) * self.settings.patch**2 * size.zoom**2
        row = 4 * patches * (size.bands + self.settings.atoms)
        return {
            "fit": usual["fit"] + 2 * self._dictionary,
            "apply": usual["apply"] + self._dictionary + row + (8 if self.as_authors else 4) * fine,
        }

    def figures(self, state: State) -> dict[str, Any]:
        """Patches in the dictionary."""
        return {} if self.as_authors else {"dictionary_atoms": int(state["low"].shape[0])}


class Canvas:
    """Sum of overlapping patches on the core of a tile, and how many lie over each pixel."""

    def __init__(self, tile: Tile, ratio: int, bands: int, patch: tuple[int, int], dictionary: torch.Tensor) -> None:
        inner, window = tile.inner, tile.window
        self.ratio, self.patch, self.dictionary = ratio, patch, dictionary
        self.top, self.left = inner.row - window.row, inner.col - window.col
        size = inner.height * ratio, inner.width * ratio
        self.total = dictionary.new_zeros(bands, *size)
        self.count = dictionary.new_zeros(size)

    def paint(
        self, row: int, columns: list[int], weights: torch.Tensor, index: torch.Tensor, first: torch.Tensor
    ) -> None:
        """Add a row of patches: weights (T, k, band) of dictionary atoms, the first of them given."""
        atoms = (
            self.dictionary[index.clamp_min(0)]
            if len(self.dictionary)
            else first.new_zeros(*index.shape, first.shape[1])
        )
        atoms[:, 0] = first
        details = weights.to(atoms.dtype).transpose(1, 2) @ atoms
        side = self.patch[0] * self.ratio, self.patch[1] * self.ratio
        for col, detail in zip(columns, details, strict=True):
            self.add(row, col, detail.reshape(-1, *side))

    def add(self, row: int, col: int, detail: torch.Tensor) -> None:
        """Add one patch (band, y, x) at coarse pixel (row, col) of the window, cut to the core."""
        r = self.ratio
        place = [(row - self.top) * r, (col - self.left) * r]
        here, there = [], []
        for start, length, size in zip(place, detail.shape[-2:], self.count.shape, strict=True):
            first, last = max(start, 0), min(start + length, size)
            here.append(slice(first, last))
            there.append(slice(first - start, last - start))
        self.total[:, here[0], here[1]] += detail[:, there[0], there[1]]
        self.count[here[0], here[1]] += 1

    def mean(self) -> torch.Tensor:
        """Average of the patches, (band, y, x)."""
        return self.total.div_(self.count.clamp_min(1))


def cut_patches(image: torch.Tensor, down: list[int], across: list[int], height: int, width: int) -> torch.Tensor:
    """Patches of an image (y, x) at all pairs of starts, row by row, as (patch, height * width)."""
    rows = torch.tensor(down, device=image.device).reshape(-1, 1) + torch.arange(height, device=image.device)
    cols = torch.tensor(across, device=image.device).reshape(-1, 1) + torch.arange(width, device=image.device)
    rows, cols = rows.long(), cols.long()
    return image[rows[:, None, :, None], cols[None, :, None, :]].reshape(-1, height * width)


def _times(
    down: list[int], across: list[int], height: int, width: int, ratio: int
) -> tuple[list[int], list[int], int, int]:
    return [i * ratio for i in down], [i * ratio for i in across], height * ratio, width * ratio


def _merge(left: State, right: State) -> State:
    """Sums added, lists joined in tile order."""
    lists = {k: torch.cat([left[k], right[k]]) for k in left if k.startswith("list_")}
    return merge_sums(*({k: v for k, v in s.items() if k not in lists} for s in (left, right))) | lists
