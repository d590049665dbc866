"""The binary header in front of the pixels of a HySpex raw file: background, responsivity, quantum efficiency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torchspectral.errors import BrokenProduct
from torchspectral.io.safety import check_read, check_scene

MAGIC = b"HYSPEX"

_FIXED = np.dtype(
    [
        ("word", "S8"), ("size", "<i4"), ("serial", "<i4"), ("config", "S200"), ("setting", "S120"),
        ("scaling", "<f8"), ("electronics", "<u4", 2), ("comport_electronics", "S44"), ("fan", "<u4"),
        ("cooling", "<u4", 4), ("comport", "S64"), ("detector", "S200"), ("sensor", "S176"),
        ("temperature_end", "<f8"), ("temperature_start", "<f8"), ("temperature_calibration", "<f8"),
        ("framegrabber", "S200"), ("id", "S200"), ("supplier", "S200"), ("left_gain", "S32"), ("right_gain", "S32"),
        ("comment", "S200"), ("background_file", "S200"), ("record", "S1"), ("unused", "<u4", 3),
        ("backgrounds", "<u4"), ("spectral", "<u4"), ("spatial", "<u4"), ("binning", "<u4"), ("detected", "<u4"),
        ("integration_time", "<u4"), ("frame_period", "<u4"), ("default_bands", "<u4", 3), ("bit_shift", "<u4"),
        ("settings", "<u4", 15), ("pid", "<u4", 3), ("frames", "<u4"), ("bad_pixels", "<u4"), ("dw", "<u4"),
        ("eq", "<u4"), ("lens", "<u4"), ("fov", "<u4"), ("scanning", "<u4"), ("calibrated", "<u4"),
        ("averages", "<u4"), ("sf", "<f8"), ("aperture", "<f8"), ("pixel_x", "<f8"), ("pixel_y", "<f8"),
        ("temperature", "<f8"), ("max_rate", "<f8"), ("pointers", "<i4", 5), ("format", "<u4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class HyspexHeader:
    """What is known of a raw file without reading its matrices.

    Attributes
    ----------
    path : Path
    serial : int
    id : str
    bands, samples : int
        Size of the matrices, as the camera was set.
    integration_time : float
        ms.
    frame_period : float
        us.
    temperature : float
        degC at the start.
    backgrounds : int
        Dark frames that were averaged.
    """

    path: Path
    serial: int
    id: str
    bands: int
    samples: int
    integration_time: float
    frame_period: float
    temperature: float
    backgrounds: int

    def matrix(self, name: str) -> np.ndarray:
        """``background`` or ``responsivity``, float64, shape (bands, samples); ``efficiency``, shape (bands, 1).

        Raises
        ------
        BrokenProduct, TooLarge
        """
        count = self.bands * (1 if name == "efficiency" else self.samples)
        at = _FIXED.itemsize + 8 * self.bands
        at += {"efficiency": 0, "responsivity": 8 * self.bands}.get(name, 8 * self.bands * (1 + self.samples))
        check_read((count,), np.float64, self.path)
        with self.path.open("rb") as file:
            file.seek(at)
            stored = file.read(8 * count)
        if len(stored) != 8 * count:
            raise BrokenProduct(f"{self.path.name} ends within the {name} of its header")
        return np.frombuffer(stored, "<f8").reshape(self.bands, -1).astype(np.float64)


def read_hyspex(path: Path, offset: int) -> HyspexHeader | None:
    """Binary header of a raw file whose pixels begin after `offset` bytes; None where it has none.

    Raises
    ------
    BrokenProduct
        It begins like one but its sizes do not fit.
    """
    with path.open("rb") as file:
        start = file.read(_FIXED.itemsize)
    if len(start) < _FIXED.itemsize or not start.startswith(MAGIC):
        return None
    found = np.frombuffer(start, _FIXED, count=1)[0]
    bands, samples = int(found["spectral"]), int(found["spatial"])
    check_scene((bands, samples), np.float64, path)
    need = _FIXED.itemsize + 8 * (2 * bands + 2 * bands * samples)
    if need > offset:
        raise BrokenProduct(
            f"{path.name} describes {bands} bands and {samples} samples in a header of {offset} bytes, expected at least "
            f"{need}: the file is damaged or another version"
        )
    return HyspexHeader(
        path, int(found["serial"]), _words(found["id"]), bands, samples,
        float(found["integration_time"]) / 1000, float(found["frame_period"]),
        float(found["temperature_start"]), int(found["backgrounds"]),
    )  # fmt: skip


def _words(text: bytes) -> str:
    return " ".join(text.split(b"\0")[0].decode("latin-1").split())
