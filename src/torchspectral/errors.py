"""Every error that torchspectral raises on purpose.

Each message says what was got, what was expected and what to do. The command line prints it on one line and exits
with 2; any other exception is a bug and exits with 1.
"""

from __future__ import annotations


class TorchspectralError(Exception):
    """Base of all errors raised on purpose."""


class ProductNotFound(TorchspectralError, FileNotFoundError):
    """A path, or a companion file that a product needs, does not exist."""


class UnknownProduct(TorchspectralError):
    """No reader recognises the content; the message lists what was tried."""


class BrokenProduct(TorchspectralError):
    """A product was recognised but is truncated, inconsistent or misses a part."""


class UnsafeInput(TorchspectralError):
    """A file asks for something that hostile files ask for (links, bombs, pickles, remote sources)."""


class MissingDependency(TorchspectralError, ImportError):
    """An optional library is not installed; the message carries the install command."""


_EXTRAS = {
    "torch": "torch", "einops": "torch", "safetensors": "torch", "timm": "torch", "lightning": "train", "torchmetrics": "train",
    "sklearn": "train", "peft": "train", "pyarrow": "train", "geopandas": "vectors", "pyogrio": "vectors", "shapely": "vectors", "distributed": "cluster",
    "tensorly": "demo", "panel": "viewer", "hvplot": "viewer",
}  # fmt: skip


def missing_dependency(what: str, error: ImportError) -> MissingDependency | None:
    """What to tell of an import that failed; None where the library is none of the optional ones."""
    library = (error.name or "").split(".")[0]
    if library not in _EXTRAS:
        return None
    return MissingDependency(
        f"{what} needs {library}, which is not installed: pip install 'torchspectral[{_EXTRAS[library]}]'", name=library
    )


class MissingMetadata(TorchspectralError):
    """Wavelengths, CRS, scale or another needed fact is absent and must be given."""


class BadCube(TorchspectralError, ValueError):
    """An array does not follow the cube's contract (dims, coordinates, units)."""


class BandMismatch(TorchspectralError, ValueError):
    """Band counts, wavelengths or coverage do not fit."""


class GridMismatch(TorchspectralError, ValueError):
    """CRS, resolution, extent or ratio of two inputs do not fit."""


class BadSettings(TorchspectralError, ValueError):
    """A setting has an unknown name, a wrong type or a value outside its range."""


class BadInput(TorchspectralError, ValueError):
    """Pixel values cannot be worked with (all nodata, constant, infinite, too few pixels)."""


class UnknownName(TorchspectralError, KeyError):
    """A method, sensor, model, layer or band name does not exist; the message has the closest ones."""

    def __str__(self) -> str:
        """Message without the quotes that KeyError adds."""
        return str(self.args[0]) if self.args else ""


class MissingWeights(TorchspectralError):
    """Weights are not on this machine; the message says source, licence and the command that adds them."""


class BadWeights(TorchspectralError):
    """A weights file does not fit the network, its card or its checksum."""


class TooLarge(TorchspectralError, MemoryError):
    """The work would not fit in memory, or a header promises more than is allowed."""


class OutputExists(TorchspectralError, FileExistsError):
    """The output exists and neither `overwrite` nor `resume` was asked for."""


class OutputFailed(TorchspectralError, OSError):
    """Writing failed (disk full, read-only, output equal to input); nothing stands under the output's name."""


class JournalMismatch(TorchspectralError):
    """A half-done output belongs to other inputs, settings or versions and cannot be resumed."""


class Interrupted(TorchspectralError):
    """Work was stopped half-way; what is done is kept and `resume` continues it."""


_MOST_NAMES = 16


def closest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Sentence part with the names most like `name`, for error messages."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if near:
        return f"did you mean {', '.join(near)}?"
    names, more = sorted(known), ""
    if len(names) > _MOST_NAMES:
        names, more = names[:_MOST_NAMES], f" and {len(names) - _MOST_NAMES} more"
    return f"known: {', '.join(names) or 'none'}{more}"
