"""Files that want more than to be read: each is refused with a message of its own, and nothing foreign is opened."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

import torchspectral as ts
from torchspectral.errors import TooLarge, UnsafeInput

sys.path.insert(0, str(Path(__file__).parent))
import enmap_miniature
import stac_miniature

ARRAY = np.arange(60, dtype="u2").reshape(3, 4, 5)


class Watch:
    """Tells whether anybody opened a file since, C libraries included (inotify)."""

    def __init__(self, path: Path) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        seen = 0x20 | 0x1  # IN_OPEN, IN_ACCESS
        assert self.libc.inotify_add_watch(self.fd, os.fsencode(path), seen) >= 0

    def touched(self) -> bool:
        try:
            return len(os.read(self.fd, 4096)) > 0
        except BlockingIOError:
            return False
        finally:
            os.close(self.fd)


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A foreign file, as a valid HDF5, TIFF-like pile of bytes; it must stay unopened."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    stac_miniature.write_asset(folder / "secret.tif")
    yield folder / "secret.tif"


def vrt(folder: Path, secret: Path) -> Path:
    path = folder / "a.tif"
    path.write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def hdf5_link(folder: Path, secret: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file["cube"] = ARRAY
        file["deep/other"] = h5py.ExternalLink(str(secret), "/cube")
    return folder / "a.h5"


def hdf5_storage(folder: Path, secret: Path) -> Path:
    with h5py.File(folder / "a.nc", "w") as file:
        file.create_dataset("reflectance", (3, 4, 5), "u2", external=[(str(secret), 0, 120)])
    return folder / "a.nc"


def hdf5_virtual(folder: Path, secret: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((3, 4, 5), "u2")
        layout[:] = h5py.VirtualSource(str(secret), "cube", (3, 4, 5))
        file.create_virtual_dataset("reflectance", layout)
    return folder / "a.h5"


def zip_bomb(folder: Path, secret: Path) -> Path:
    with zipfile.ZipFile(folder / "ENMAP01-a.ZIP", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ENMAP01-a/ENMAP01-a-SPECTRAL_IMAGE.TIF", bytes(80 << 20))
    return folder / "ENMAP01-a.ZIP"


def zip_path(folder: Path, secret: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("../elsewhere/secret.tif", b"x")
    return folder / "a.zip"


def xml_entity(folder: Path, secret: Path) -> Path:
    path, *_ = enmap_miniature.write_product(folder / "p")
    text = path.read_text()
    at = text.index("?>") + 2
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]>'
    path.write_text(text[:at] + entity + text[at:].replace("<startTime>", "<startTime>&x;", 1))
    return path


def mat_object(folder: Path, secret: Path) -> Path:
    scipy.io.savemat(folder / "a.mat", {"data": ARRAY.astype(float)})
    data = bytearray((folder / "a.mat").read_bytes())
    data[128 + 16] = 17  # opaque: what MATLAB stores objects as
    (folder / "a.mat").write_bytes(bytes(data))
    return folder / "a.mat"


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


def mat_pickle(folder: Path, secret: Path) -> Path:
    (folder / "a.mat").write_bytes(pickle.dumps({"data": Evil()}))
    return folder / "a.mat"


def npy_pickle(folder: Path, secret: Path) -> Path:
    np.save(folder / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    return folder / "a.npy"


def envi_petabyte(folder: Path, secret: Path) -> Path:
    (folder / "a.hdr").write_text(
        "ENVI\nsamples = 16000000\nlines = 16000000\nbands = 8\ndata type = 4\ninterleave = bsq\n"
    )
    (folder / "a.img").write_bytes(b"x")
    return folder / "a.hdr"


def tiff_petabyte(folder: Path, secret: Path) -> Path:
    """A BigTIFF of 16777216 x 16777216 pixels whose one strip is missing."""
    rows = [(256, 4, 1 << 24), (257, 4, 1 << 24), (258, 3, 32), (259, 3, 1), (262, 3, 1), (273, 16, 8), (277, 3, 1),
            (278, 4, 1 << 24), (279, 16, 0), (339, 3, 3)]  # fmt: skip
    body = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(rows))
    body += b"".join(struct.pack("<HHQQ", tag, kind, 1, value) for tag, kind, value in rows) + struct.pack("<Q", 0)
    (folder / "a.tif").write_bytes(body)
    return folder / "a.tif"


def item_file(folder: Path, secret: Path) -> Path:
    return stac_miniature.write_item(folder, {"a": stac_miniature.asset(f"file://{secret}", 500.0)})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify")
@pytest.mark.parametrize(
    ("write", "error", "says"),
    [
        (vrt, UnsafeInput, "virtual raster"),
        (hdf5_link, UnsafeInput, "links to another file"),
        (hdf5_storage, UnsafeInput, "values in another file"),
        (hdf5_virtual, UnsafeInput, "virtual dataset"),
        (zip_bomb, UnsafeInput, "times"),
        (zip_path, UnsafeInput, "leads out of the archive"),
        (xml_entity, UnsafeInput, "document type or entities"),
        (mat_object, UnsafeInput, "MATLAB opaque, which is never loaded"),
        (mat_pickle, UnsafeInput, "pickle, which is never loaded"),
        (npy_pickle, UnsafeInput, "pickled objects"),
        (envi_petabyte, TooLarge, "promises 8.19 PB"),
        (tiff_petabyte, TooLarge, "PB|stored in blocks of"),
        (item_file, UnsafeInput, "file: URL"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_refused_and_nothing_foreign_is_opened(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, Path], Path], error: type[Exception], says: str,
) -> None:  # fmt: skip
    path = write(tmp_path, secret)
    monkeypatch.chdir(tmp_path)
    watch = Watch(secret)
    for work in (ts.open, ts.describe):
        with pytest.raises(error, match=says):
            work(path)
    with contextlib.suppress(error):  # some list layers by the names of files alone
        ts.layers(path)
    assert not watch.touched()
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify")
def test_the_watch_sees_what_c_libraries_open(secret: Path) -> None:
    watch = Watch(secret)
    ts.open(secret)
    assert watch.touched()


def test_ordinary_files_are_not_taken_for_damaged(tmp_path: Path) -> None:
    from torchspectral.io.hdf5_safety import check_heaps

    path = tmp_path / "a.h5"
    for count in range(40):  # texts of all lengths end before all sorts of numbers, heaps lie at all sorts of addresses
        with h5py.File(path, "w", libver="latest" if count % 3 == 0 else None) as file:
            file.attrs.update({f"text {k}": "x" * (k + count) for k in range(count)})
            file["names"] = np.array(["ab"] * 9, dtype=h5py.string_dtype())
            file["pixels"], file["chunked"] = np.zeros(64, "<u4"), np.zeros(0)
            del file["chunked"]
            file.create_dataset("chunked", data=np.zeros(64, "<u4"), chunks=(32,))
        heap = path.read_bytes().find(b"GCOL")
        with h5py.File(path, "r+") as file:  # pixels that look like a reference of two billion characters
            file["pixels"][:4] = file["chunked"][32:36] = [1 << 31, heap, 0, 1]
        check_heaps(path)


def test_a_cube_that_xarray_itself_wrote_opens(tmp_path: Path) -> None:
    cube = ts.make_cube(np.random.default_rng(0).random((60, 7, 9), "f4"), wavelength=np.linspace(420, 2450, 60))
    cube.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    np.testing.assert_array_equal(ts.open(tmp_path / "a.nc").values, cube.values)
