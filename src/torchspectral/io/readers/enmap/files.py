"""The files of an EnMAP product: found from a folder, the XML, an image or a ZIP, in any case, with any extension."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from torchspectral.errors import BrokenProduct, ProductNotFound
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.members import member_bytes, open_image, open_member, unpacked_in
from torchspectral.io.safety import existing_path, read_bytes, safe_zip_members

_IMAGE_SUFFIXES = ("tif", "tiff", "geotiff", "gtiff", "bsq", "bil", "bip", "jp2", "jpeg2000")
_METADATA = re.compile(r"^(?P<stem>.+?)-METADATA(?:_COG)?\.XML$", re.IGNORECASE)
_RASTER = re.compile(
    r"^(?P<stem>.+?)-(?P<kind>SPECTRAL_IMAGE(?:_VNIR|_SWIR)?|QL_[A-Z_]+?)(?:_COG)?\.(?P<suffix>"
    + "|".join(_IMAGE_SUFFIXES)
    + r")$",
    re.IGNORECASE,
)


# DESIS, also by DLR, names its parts the same.
_OTHERS = "DESIS-"


@dataclass
class EnmapFiles:
    """Where the parts of one product lie.

    Attributes
    ----------
    stem : str
        Common start of the file names.
    archive : Path or None
        The ZIP that holds them; then all names are members of it.
    metadata : str
        Path (or member) of the XML, "" where there is none.
    rasters : dict of str
        Kind ("SPECTRAL_IMAGE", "SPECTRAL_IMAGE_VNIR", "QL_QUALITY_CLOUD", ...) to path (or member).
    """

    stem: str
    archive: Path | None = None
    metadata: str = ""
    rasters: dict[str, str] = field(default_factory=dict)

    @property
    def images(self) -> list[str]:
        """Kinds of the spectral images: one for L1C and L2A, VNIR and SWIR for L1B."""
        if "SPECTRAL_IMAGE" in self.rasters:
            return ["SPECTRAL_IMAGE"]
        return [k for k in ("SPECTRAL_IMAGE_VNIR", "SPECTRAL_IMAGE_SWIR") if k in self.rasters]

    def metadata_bytes(self) -> bytes:
        """The XML document."""
        if self.archive is not None:
            return member_bytes(self.archive, self.metadata)
        return read_bytes(Path(self.metadata))

    def handle(self, kind: str) -> Handle:
        """Handle of an open raster."""
        name = self.rasters[kind]
        if self.archive is not None:
            return Handle(open_member, self.archive, name, per_thread=True)
        return Handle(open_image, name, per_thread=True)

    def source(self, kind: str) -> str:
        """Path of a raster for messages and ``attrs["source"]``."""
        return f"{self.archive}/{self.rasters[kind]}" if self.archive is not None else self.rasters[kind]


def find_files(path: Path) -> EnmapFiles:
    """The product that a path belongs to.

    Parameters
    ----------
    path : Path
        Folder, METADATA.XML, spectral image or ZIP.

    Raises
    ------
    ProductNotFound, BrokenProduct, UnsafeInput
        Nothing there; no product, or several, in a folder or archive; a dangerous archive.
    """
    path = existing_path(path)
    if path.is_dir():
        listed = _sort_out(str(p) for p in _listing(path))
        return _only(listed, path.name)
    if path.suffix.lower() == ".zip":
        names = [entry.filename for entry in safe_zip_members(path) if not entry.is_dir()]
        found = _only(_sort_out(names), path.name)
        found.archive = path
        return found
    match = _METADATA.match(path.name) or _RASTER.match(path.name)
    if match is None:
        if path.suffix.lower() == ".xml":
            return _by_content(path)
        raise BrokenProduct(f"{path.name} is not named as a part of an EnMAP product: expected ...-METADATA.XML")
    stem = match["stem"].lower()
    beside = _sort_out(str(p) for p in _files(path.parent) if p.name.lower().startswith(stem + "-"))
    found = beside.get(stem) or EnmapFiles(match["stem"])
    if _METADATA.match(path.name):
        found.metadata = str(path)
    else:
        found.rasters[match["kind"].upper()] = str(path)
    return found


def _by_content(path: Path) -> EnmapFiles:
    """A renamed XML: the one product of its folder, if there is one."""
    listed = _sort_out(str(p) for p in _files(path.parent))
    if len(listed) != 1:
        raise ProductNotFound(
            f"{path.name} is EnMAP metadata, but its folder has {len(listed)} EnMAP images: expected "
            "...-SPECTRAL_IMAGE.TIF beside it, keep the names that DLR gave"
        )
    found = next(iter(listed.values()))
    found.metadata = str(path)
    return found


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_file())
    except OSError as error:
        raise BrokenProduct(f"the folder {folder.name} cannot be listed: {error.strerror}") from None


def _listing(folder: Path) -> list[Path]:
    """Files of a folder, or of the one folder in it that a product was unpacked into."""
    here = _files(folder)
    if any(_METADATA.match(p.name) or _RASTER.match(p.name) for p in here):
        return here
    inner = unpacked_in(folder)
    return [] if inner is None else _files(inner)


def _sort_out(names: Iterable[str]) -> dict[str, EnmapFiles]:
    """Products among file names, by lower-case stem."""
    found: dict[str, EnmapFiles] = {}
    for name in names:
        last = PurePosixPath(name.replace("\\", "/")).name
        match = _METADATA.match(last)
        if match:
            found.setdefault(match["stem"].lower(), EnmapFiles(match["stem"])).metadata = name
            continue
        match = _RASTER.match(last)
        if match:
            files = found.setdefault(match["stem"].lower(), EnmapFiles(match["stem"]))
            files.rasters.setdefault(match["kind"].upper(), name)
    return found


def _only(listed: dict[str, EnmapFiles], where: str) -> EnmapFiles:
    products = [f for f in listed.values() if f.metadata or f.images]
    if not products:
        raise BrokenProduct(f"{where} holds no EnMAP product: expected ...-METADATA.XML and ...-SPECTRAL_IMAGE.TIF")
    if len(products) > 1:
        names = ", ".join(sorted(f.stem for f in products)[:3])
        raise BrokenProduct(f"{where} holds {len(products)} EnMAP products ({names}): open one by its METADATA.XML")
    return products[0]


def looks_like_enmap(path: Path) -> float:
    """How surely `path` is (a part of) an EnMAP product, 0..1."""
    if path.is_dir() or path.suffix.lower() == ".zip":
        files = find_files(path)
        if files.stem.upper().startswith(_OTHERS):
            return 0.0
        return 0.95 if files.images and files.metadata else 0.6
    if path.name.upper().startswith(_OTHERS):
        return 0.0
    match = _RASTER.match(path.name)
    if match and match["kind"].upper().startswith("SPECTRAL_IMAGE"):
        files = find_files(path)
        return 0.95 if files.metadata or match["stem"].upper().startswith("ENMAP") else 0.5
    if path.suffix.lower() == ".xml":
        with path.open("rb") as file:
            start = file.read(1 << 20)
        return 0.95 if b"bandCharacterisation" in start or (b"nMAP" in start and _METADATA.match(path.name)) else 0.0
    return 0.0
