"""Where the sub-images of a multi-aperture spectrometer lie, in which order, and under which angle each pixel looks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BadSettings, BrokenProduct, GridMismatch
from torchspectral.io.safety import existing_path, read_text

MOST_PIXELS = 1 << 28
"""Of a detector that is believed."""


@dataclass(frozen=True)
class Geometry:
    """Layout of the sub-images on the detector.

    Attributes
    ----------
    image_size : (int, int)
        Rows and columns of the detector.
    subimage_size : (int, int)
        Rows and columns of a sub-image.
    subimage_center : (int, int)
        Row and column of the first sub-image's centre, counted from the lower left corner.
    subimage_amount : (int, int)
        Sub-images down and across.
    subimage_arrangement : {"vertical", "horizontal"}
        They are counted along columns (rows), back and forth.
    thickness_minimum, thickness_step : float
        Of the cells [nm]; the optical path difference is twice the thickness.
    field_of_view : float
        Angle between the axis and the corner of a sub-image [deg]; 0: all pixels look along the axis.
    id : str

    Raises
    ------
    BadSettings
        Sizes that are not positive, an unknown arrangement, or sub-images that do not fit on the detector.
    """

    image_size: tuple[int, int]
    subimage_size: tuple[int, int]
    subimage_center: tuple[int, int]
    subimage_amount: tuple[int, int]
    subimage_arrangement: str = "vertical"
    thickness_minimum: float = 0.0
    thickness_step: float = 0.0
    field_of_view: float = 0.0
    id: str = ""

    def __post_init__(self) -> None:
        for name in ("image_size", "subimage_size", "subimage_center", "subimage_amount"):
            value = getattr(self, name)
            least = 0 if name == "subimage_center" else 1
            ok = isinstance(value, list | tuple) and len(value) == 2
            if not ok or any(isinstance(v, bool) or not isinstance(v, int) or not least <= v < 1 << 20 for v in value):
                raise BadSettings(f"the device says {name}={value!r}, expected two whole numbers from {least}")
            object.__setattr__(self, name, (int(value[0]), int(value[1])))
        if self.image_size[0] * self.image_size[1] > MOST_PIXELS:
            raise BadSettings(
                f"the device says image_size={self.image_size}, expected a detector of at most {MOST_PIXELS} pixels"
            )
        if self.subimage_arrangement not in ("vertical", "horizontal"):
            raise BadSettings(
                f"the device says subimage_arrangement={self.subimage_arrangement!r}, expected vertical or horizontal"
            )
        for name in ("thickness_minimum", "thickness_step", "field_of_view"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
                raise BadSettings(f"the device says {name}={value!r}, expected a number from 0")
        if self.field_of_view >= 90:
            raise BadSettings(f"the device says field_of_view={self.field_of_view:g}, expected less than 90 degrees")
        for axis, word in enumerate(("rows", "columns")):
            half = self.subimage_size[axis] // 2
            first = self.subimage_center[axis] - half
            last = first + self.pitch[axis] * (self.subimage_amount[axis] - 1) + self.subimage_size[axis]
            # The published layout lets the first column of sub-images hang over the edge by a few pixels.
            if first < -half or last > self.image_size[axis] + half:
                raise BadSettings(
                    f"the device's sub-images cover {word} {first} to {last} of a detector of {self.image_size[axis]}, "
                    "expected them to lie on it, but for less than half a sub-image"
                )

    @property
    def pitch(self) -> tuple[int, int]:
        """Rows and columns from one sub-image to the next: they stand side by side."""
        return self.subimage_size

    @property
    def count(self) -> int:
        """Sub-images."""
        return self.subimage_amount[0] * self.subimage_amount[1]

    @property
    def nominal_opd(self) -> np.ndarray:
        """Designed optical path difference of each sub-image on the axis [um], shape (count,)."""
        return (self.thickness_minimum + np.arange(self.count) * self.thickness_step) / 500

    def corners(self) -> np.ndarray:
        """First row and column of each sub-image in its order, shape (count, 2), rows from the lower edge."""
        rows, cols = self.subimage_amount
        row, col = np.divmod(np.arange(self.count), cols)
        if self.subimage_arrangement == "vertical":
            col, row = np.divmod(np.arange(self.count), rows)
            row = np.where(col % 2 == 1, rows - 1 - row, row)
        else:
            col = np.where(row % 2 == 1, cols - 1 - col, col)
        start = np.asarray(self.subimage_center) - np.asarray(self.subimage_size) // 2
        return np.stack([row, col], axis=1) * np.asarray(self.pitch) + start

    def assemble(self, cube: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Put sub-images (count, rows, cols) on the detector; what no sub-image covers is `fill`.

        Raises
        ------
        GridMismatch
        """
        height, width = self.subimage_size
        if cube.shape != (self.count, height, width):
            raise GridMismatch(f"got sub-images of shape {cube.shape}, expected {(self.count, height, width)}")
        margin = self._margin()
        padded = np.full(
            [n + 2 * m for n, m in zip(self.image_size, margin, strict=True)],
            fill,
            dtype=np.result_type(cube.dtype, np.float32),
        )
        for (top, left), part in zip(self._tops() + margin, cube, strict=True):
            padded[top : top + height, left : left + width] = part
        return padded[margin[0] : margin[0] + self.image_size[0], margin[1] : margin[1] + self.image_size[1]]

    def _margin(self) -> np.ndarray:
        return np.asarray(self.subimage_size)

    def _tops(self) -> np.ndarray:
        """First row and column of each sub-image from the upper left; rows of the layout count from the lower edge."""
        corners = self.corners()
        return np.stack([self.image_size[0] - corners[:, 0] - self.subimage_size[0], corners[:, 1]], axis=1)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Sub-images (count, rows, cols) of a detector image, in their order, float32; NaN off the detector.

        Raises
        ------
        GridMismatch
            The image is not of the detector's size.
        """
        if image.shape[-2:] != self.image_size or image.ndim != 2:
            raise GridMismatch(f"got an image of shape {image.shape}, expected the detector's {self.image_size}")
        height, width = self.subimage_size
        margin = self._margin()
        padded = np.pad(np.asarray(image, dtype=np.float32), [(m, m) for m in margin], constant_values=np.nan)
        return np.stack([padded[t : t + height, c : c + width] for t, c in self._tops() + margin])

    def cosines(self) -> np.ndarray:
        """Cosine of the angle under which each pixel of a sub-image looks, shape (rows, cols)."""
        return off_axis_cosines(self.subimage_size, self.field_of_view)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def off_axis_cosines(shape: tuple[int, int], field_of_view: float) -> np.ndarray:
    """Cosine of the angle of each pixel: the field of view [deg] times its distance from the centre over the corner's."""
    rows, cols = (np.arange(n) - (n - 1) / 2 for n in shape)
    radius = np.hypot(rows[:, None], cols[None, :])
    corner = max(float(radius.max()), 1e-12)
    return np.asarray(np.cos(np.deg2rad(field_of_view) * radius / corner))


def parse_geometry(values: Mapping[str, Any], what: str = "device") -> Geometry:
    """A layout from plain values as in the authors' device files.

    Raises
    ------
    BadSettings
        A key is missing, unknown or of the wrong kind.
    """
    known = set(Geometry.__dataclass_fields__)
    values = {str(k): v for k, v in values.items()}
    if "fov" in values:
        values["field_of_view"] = values.pop("fov")
    missing = [k for k in ("image_size", "subimage_size", "subimage_center", "subimage_amount") if k not in values]
    strange = [k for k in values if k not in known]
    if missing or strange:
        said = f"misses {', '.join(missing)}" if missing else f"has the unknown key {strange[0]!r}"
        raise BadSettings(f"the {what} {said}, expected {', '.join(sorted(known))}")
    return Geometry(**values)


def read_geometry(path: str | Path) -> Geometry:
    """The layout in a prototype's ``device.json``.

    Raises
    ------
    ProductNotFound, BrokenProduct, BadSettings
    """
    file = existing_path(path)
    try:
        values = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise BrokenProduct(f"{file.name} is no readable JSON: {error}") from None
    if not isinstance(values, Mapping):
        raise BrokenProduct(f"{file.name} holds {type(values).__name__}, expected an object")
    return parse_geometry(values, file.name)
