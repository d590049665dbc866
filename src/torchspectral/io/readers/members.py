"""The files of a product that is a folder or a ZIP: names, small documents, and rasters that are not unpacked."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torchspectral.errors import BrokenProduct, TooLarge
from torchspectral.io.readers.handles import Handle
from torchspectral.io.safety import check_raster, limits, open_raster, read_bytes, safe_zip_members

_DRIVERS = {
    "bsq": ("ENVI",), "bil": ("ENVI",), "bip": ("ENVI",), "jp2": ("JP2OpenJPEG",), "jpeg2000": ("JP2OpenJPEG",),
}  # fmt: skip

_DOCUMENTS = frozenset({".txt", ".md", ".pdf", ".htm", ".html", ".xml", ".png", ".jpg", ".jpeg", ".yaml"})


def drivers_of(name: str) -> tuple[str, ...]:
    """GDAL drivers that may open an image of that name."""
    return _DRIVERS.get(name.rsplit(".", 1)[-1].lower(), ("GTiff", "COG"))


def open_image(path: str) -> Any:
    """Checked rasterio dataset of an image file."""
    dataset = open_raster(path, drivers_of(path))
    check_raster(dataset)
    return dataset


def open_member(archive: str, member: str) -> Any:
    """Checked rasterio dataset of an image inside a ZIP, read through GDAL without unpacking it to disk."""
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    # GDAL reads the archive by itself, so names, links, sizes and ratios are checked each time it is opened.
    if member not in {entry.filename for entry in safe_zip_members(archive)}:
        raise BrokenProduct(f"{Path(archive).name} has no entry {member}")
    inside, problem = f"/vsizip/{{{Path(archive).resolve()}}}/{member}", ""
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE", GDAL_CACHEMAX=256), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # sensor geometry lies nowhere
        for driver in drivers_of(member):
            try:
                dataset = rasterio.open(inside, driver=driver)
            except (RasterioError, OSError, ValueError) as error:
                problem = problem or " ".join(str(error).split())[:160]
                continue
            check_raster(dataset)
            return dataset
    raise BrokenProduct(f"{PurePosixPath(member).name} inside {Path(archive).name} cannot be opened: {problem}")


def member_bytes(archive: Path, member: str) -> bytes:
    """A small text entry of an archive.

    Raises
    ------
    BrokenProduct, TooLarge, UnsafeInput
    """
    entry = next((e for e in safe_zip_members(archive) if e.filename == member), None)
    if entry is None:
        raise BrokenProduct(f"{archive.name} has no entry {member}")
    if entry.file_size > limits().text_bytes:
        raise TooLarge(f"{member} inside {archive.name} is larger than a metadata file may be")
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.read(entry)
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError) as error:
        raise BrokenProduct(f"{member} inside {archive.name} cannot be unpacked: {error}") from None


@dataclass(frozen=True)
class Members:
    """Files of one product.

    Attributes
    ----------
    root : Path
        The folder, or the ZIP.
    names : tuple of str
        Paths relative to `root`, with ``/``.
    zipped : bool
        Whether `root` is a ZIP.
    """

    root: Path
    names: tuple[str, ...]
    zipped: bool = False

    def match(self, pattern: str) -> list[tuple[str, re.Match[str]]]:
        """Names whose last part matches a pattern whole, in any case, with the match."""
        expression = re.compile(pattern, re.IGNORECASE)
        found = ((name, expression.fullmatch(name.rsplit("/", 1)[-1])) for name in self.names)
        return [(name, match) for name, match in found if match]

    def below(self, folder: str) -> Members:
        """Those whose path starts with `folder`."""
        start = folder.rstrip("/") + "/" if folder else ""
        return Members(self.root, tuple(n for n in self.names if n.startswith(start)), self.zipped)

    def read(self, name: str) -> bytes:
        """Bytes of a small document."""
        return member_bytes(self.root, name) if self.zipped else read_bytes(self.root / name)

    def text(self, name: str) -> str:
        """A small document as text: UTF-8, else Latin-1."""
        data = self.read(name)
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def handle(self, name: str) -> Handle:
        """Handle of an open raster, one a thread."""
        if self.zipped:
            return Handle(open_member, self.root, name, per_thread=True)
        return Handle(open_image, self.root / name, per_thread=True)

    def source(self, name: str) -> str:
        """Path of a file for messages and ``attrs["source"]``."""
        return str(self.root / name)


def unpacked_in(folder: Path) -> Path | None:
    """The one folder in `folder` that a product may have been unpacked into.

    None where there are several folders, or files other than documents: those may be scenes of their own, and taking the
    folder for one product would lose them.

    Raises
    ------
    BrokenProduct
        The folder cannot be listed.
    """
    try:
        inside = [p for p in folder.iterdir() if not p.name.startswith((".", "__"))]
        folders = [p for p in inside if p.is_dir()]
        others = [p for p in inside if not p.is_dir() and p.suffix.lower() not in _DOCUMENTS]
    except OSError as error:
        raise BrokenProduct(f"the folder {folder.name} cannot be listed: {error.strerror}") from None
    return folders[0] if len(folders) == 1 and not others else None


def members_of(path: Path, depth: int = 1) -> Members:
    """Files of a ZIP, or of a folder down to some depth (1: its own files).

    Raises
    ------
    BrokenProduct, UnsafeInput, TooLarge
        A folder that cannot be listed or has more files than an archive may have; a dangerous archive.
    """
    if path.is_file():
        names = tuple(entry.filename for entry in safe_zip_members(path) if not entry.is_dir())
        return Members(path, names, zipped=True)
    found: list[str] = []
    most = limits().zip_members
    try:
        for folder, below, files in os.walk(path):
            here = Path(folder).relative_to(path)
            below.sort()
            if len(here.parts) >= depth - 1:
                below.clear()
            found += [(here / name).as_posix() for name in sorted(files)]
            if len(found) > most:
                raise TooLarge(f"the folder {path.name} holds more than {most} files: open the product's own folder")
    except OSError as error:
        raise BrokenProduct(f"the folder {path.name} cannot be listed: {error.strerror}") from None
    return Members(path, tuple(found))
