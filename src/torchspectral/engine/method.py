"""What a method is: a settings object, declarations, and up to three functions on tensors.

A method never sees a file, a CRS or a device string. The engine reads the declarations, cuts the scene, converts
scales, and calls the functions; see `engine.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from torchspectral.settings import Settings

if TYPE_CHECKING:
    import torch

    from torchspectral.engine.shelf import Shelf

AnySettings = Settings

State = dict[str, Any]
"""Tensors and plain values by name: what `fit` learns, and what weights are."""

Round = tuple[State, float]
"""What a long `fit` yields after each round: the state so far and the fraction done, 0..1."""


class Scope(StrEnum):
    """The least that `apply` must see whole."""

    PIXEL = "pixel"
    LOCAL = "local"
    COLUMN = "column"
    FRAMES = "frames"
    TILE = "tile"
    SCENE = "scene"


@dataclass(frozen=True)
class Input:
    """One input of a method.

    Attributes
    ----------
    role : str
        ``cube, pan, guides, library, labels, video, interferogram``.
    kind : {"raster", "spectra"}
        Rasters are cut into tiles; spectra (a library) are handed over whole as a (spectrum, band) tensor.
    fit_only : bool
        Only `fit` needs it.
    optional : bool
        The method works without it.
    ratio : {"same", "finer", "any"}
        Grid against the lead's: the same, a whole number of times finer, or either.
    """

    role: str
    kind: str = "raster"
    fit_only: bool = False
    optional: bool = False
    ratio: str = "same"


@dataclass(frozen=True)
class Output:
    """One output of a method.

    Attributes
    ----------
    name : str
    kind : {"cube", "layers", "spectra", "table"}
    grid : str
        Role whose grid it has, "" for the lead's times `zoom`.
    zoom : int
        Output pixels per lead pixel on each side, where `grid` is "".
    step : int
        Lead pixels per output pixel on each side, for outputs coarser than the lead; divides the method's `multiple`.
        Cells cut short by the scene's edge count, and a cell is nodata where all its pixels are.
    names : tuple of str or str
        Layer or spectrum names; "=KEY" takes the list from ``state[KEY]``. A cube has the lead's bands without, and
        with "=KEY" bands of its own, at the wavelengths [nm] in ``state[KEY]``.
    dtype : str
        Of the value handed out ("float32", "int16", "uint8").
    undo_scale : bool
        Whether the engine turns values back from the working scale.
    from_state : bool
        Taken from ``state[name]`` once, instead of from `apply`.
    """

    name: str
    kind: str = "cube"
    grid: str = ""
    zoom: int = 1
    step: int = 1
    names: tuple[str, ...] | str = ()
    dtype: str = "float32"
    undo_scale: bool = True
    from_state: bool = False

    @property
    def own_bands(self) -> bool:
        """Whether it is a cube whose bands are not the lead's."""
        return self.kind == "cube" and bool(self.names)


@dataclass(frozen=True)
class Scale:
    """Working scale of a method: working = (value - offset) / gain.

    ``rule`` "physical" leaves values alone; "fixed" uses `gain` and `offset` (scalars or one a band, from a paper or a
    weights card); "max" divides by the largest valid value of the role over the scene, "meanstd" standardises each
    band: these two cost a streaming pass, and what was found is recorded. Each role is scaled by the lead's numbers
    unless it is listed in `own`.
    """

    rule: str = "physical"
    gain: Any = 1.0
    offset: Any = 0.0
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class BandRule:
    """Bands of the lead that a method accepts: counts, and wavelengths [nm] where they are fixed by weights."""

    least: int = 1
    most: int | None = None
    wavelength: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Size:
    """Size that `Method.memory` is asked about: bands and pixels of the lead, and output pixels per lead pixel side."""

    bands: int
    rows: int
    cols: int
    zoom: int = 1


@dataclass(frozen=True)
class SceneInfo:
    """Facts of the scene that methods may use.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the lead.
    wavelength, fwhm : ndarray, shape (bands,)
        Of the bands handed over [nm]; NaN where unknown.
    quantity : str
    ratio : dict of str to int
        Pixels of each role per lead pixel on each side.
    mtf : dict of str to float
        Amplitude at Nyquist of each role's sensor, where known.
    sensor : str
    bands_of : dict of str to ndarray
        Wavelengths of the other roles' bands [nm].
    names : dict of str to tuple of str
        Names of classes or library spectra by role.
    """

    shape: tuple[int, int]
    wavelength: np.ndarray
    fwhm: np.ndarray
    quantity: str = "dn"
    ratio: Mapping[str, int] = field(default_factory=dict)
    mtf: Mapping[str, float] = field(default_factory=dict)
    sensor: str = ""
    bands_of: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def bands(self) -> int:
        """Number of lead bands handed over."""
        return len(self.wavelength)


@dataclass(frozen=True)
class Window:
    """Rectangle in lead pixels."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def times(self, zoom: int | Fraction) -> Window:
        """The same ground on a grid `zoom` times finer."""
        return Window(*(int(v * zoom) for v in (self.row, self.col, self.height, self.width)))


@dataclass
class Tile:
    """A cut of the scene: role to tensor (n, band, y, x), halo included.

    Attributes
    ----------
    data : dict of str to Tensor
        Spectra roles are (spectrum, band).
    window : Window
        What the lead tensor covers, halo included, clipped to the scene.
    inner : Window
        The core: what this tile answers for.
    valid : Tensor of bool, shape (n, 1, y, x)
        False where a lead pixel was nodata and has been filled.
    info : SceneInfo
    """

    data: dict[str, torch.Tensor]
    window: Window
    inner: Window
    valid: torch.Tensor
    info: SceneInfo

    def __getitem__(self, role: str) -> torch.Tensor:
        return self.data[role]

    def __contains__(self, role: str) -> bool:
        return role in self.data

    @property
    def lead(self) -> torch.Tensor:
        """Tensor of the leading role."""
        return next(iter(self.data.values()))

    def core(self, tensor: torch.Tensor | str) -> torch.Tensor:
        """Cut the halo off a tensor on the lead grid or a whole number of times finer.

        Parameters
        ----------
        tensor : Tensor of shape (..., y, x), or a role's name
        """
        t = self.data[tensor] if isinstance(tensor, str) else tensor
        zoom = t.shape[-1] // self.window.width
        top, left = (self.inner.row - self.window.row) * zoom, (self.inner.col - self.window.col) * zoom
        return t[..., top : top + self.inner.height * zoom, left : left + self.inner.width * zoom]

    def core_pixels(self, role: str | torch.Tensor) -> torch.Tensor:
        """Valid core pixels of a role on the lead grid as (band, pixel), float as stored."""
        t = self.core(role)
        keep = self.core(self.valid).reshape(-1)
        pixels = t.movedim(-3, 0).reshape(t.shape[-3], -1)
        return pixels if bool(keep.all()) else pixels[:, keep]


class Source(Protocol):
    """The scene as `fit` sees it; every call streams, in tile order, and counts valid core pixels only."""

    info: SceneInfo

    def tiles(self) -> Iterator[Tile]:
        """All tiles in order, on the device."""
        ...

    def patches(self, n: int, size: int) -> Tile:
        """`n` square patches of `size` lead pixels at seeded random places without nodata, stacked along n."""
        ...

    def sample(self, n: int) -> torch.Tensor:
        """At most `n` valid lead pixels, seeded, evenly over the scene: (band, n)."""
        ...

    def gram(self) -> Gram:
        """Count, sums and cross products of the lead's valid pixels, float64."""
        ...

    def reduce(self, f: Callable[[Tile], Any], merge: Callable[[Any, Any], Any]) -> Any:
        """Apply `f` to each tile, in parallel, and fold with `merge` in tile order."""
        ...

    def map(self, name: str, f: Callable[[Tile], torch.Tensor]) -> None:
        """Write an array (bands', y, x) on the lead grid; later tiles, those of `apply` too, carry it as role `name`.

        `f` sees the old array where one of that name exists (whole tile, halo included) and returns the whole tile
        or its core.
        """
        ...

    def shelf(self, name: str, count: int, size: int) -> Shelf:
        """Room for `count` float32 vectors of `size` values outside memory; journaled with the state that holds it.

        For what a long `fit` makes piece by piece and `apply` needs piece by piece, a network a band, say. A vector is
        laid down once; see `engine.shelf`.
        """
        ...

    def whole(self, name: str) -> torch.Tensor:
        """A role or mapped array in one piece, (1, band, y, x); held to `Method.memory`.

        Raises
        ------
        TooLarge
            It does not fit.
        """
        ...


@dataclass
class Gram:
    """Sums over pixels, float64: count n, total (bands,), cross (bands, bands) = sum x x^T, largest absolute value."""

    n: int
    total: torch.Tensor
    cross: torch.Tensor
    peak: float = 0.0

    @property
    def mean(self) -> torch.Tensor:
        """Mean spectrum, (bands,)."""
        return self.total / max(self.n, 1)

    @property
    def covariance(self) -> torch.Tensor:
        """Unbiased covariance, (bands, bands)."""
        mean = self.mean
        return (self.cross - self.n * mean[:, None] * mean[None, :]) / max(self.n - 1, 1)


class Method:
    """Base of all methods. Class attributes may be properties where they depend on the settings.

    Parameters
    ----------
    settings : Settings
        An instance of the class's own `Settings`.
    """

    Settings: ClassVar[type[Settings]] = Settings
    inputs: tuple[Input, ...] = (Input("cube"),)
    outputs: tuple[Output, ...] = (Output("cube"),)
    scope: Scope = Scope.PIXEL
    scale: Scale = Scale()
    bands: BandRule = BandRule()
    halo: int = 0
    multiple: int = 1
    tile: tuple[int, int] | None = None
    overlap: int = 0
    needs_fit: bool = False
    fill: str = "nearest"
    hole_reach: int = 0
    """Lead pixels around nodata, at most `halo`, whose outputs are nodata too, for they rest on filled values."""
    allows_bad_bands: bool = False
    compute_dtype: str = "float32"

    def __init__(self, settings: AnySettings | None = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings.make()

    def prepare(self, info: SceneInfo) -> None:
        """Adjust declarations to the scene (ratio, bands) before anything is cut; raise what cannot be done."""

    def fit(self, source: Source, seed: int, state: State | None) -> State | Iterable[Round]:
        """Learn from the scene; a generator yields (state, fraction) after each round and goes on from the last."""
        return state or {}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Outputs by name for one tile, core or whole tile, (n, band, y, x) on the output's grid.

        Frames methods return ``(outputs, next state)``.
        """
        raise NotImplementedError

    def finish(self, outputs: dict[str, Any], state: State) -> dict[str, Any]:
        """Merge tables or label layers once a scene; `outputs` holds xarray values (lazy where written) and tables."""
        return outputs

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes that ``fit`` and ``apply`` need beside their inputs for a tile (or scene, scope scene) of `size`."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 3 * pixels, "apply": pixels * (2 + 2 * size.zoom**2)}

    def figures(self, state: State) -> dict[str, Any]:
        """Numbers worth reporting (iterations, losses, rank), from the state; sentences under "warnings" become notes."""
        return {}


def is_fitted(method: Method) -> bool:
    """Whether the class overrides `fit`."""
    return type(method).fit is not Method.fit
