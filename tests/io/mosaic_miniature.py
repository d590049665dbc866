"""Writes frames of snapshot-mosaic sensors and their calibration files; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

PEAKS = {
    2: [640.0, 530.0, 460.0, 800.0],
    3: [700.0, 660.0, 740.0, 620.0, 780.0, 600.0, 640.0, 720.0, 760.0],
    4: [565, 573, 557, 549, 507, 515, 499, 489, 535, 541, 527, 519, 598, 606, 590, 582],
    5: [886, 896, 877, 867, 951, 793, 806, 782, 769, 675, 743, 757, 730, 715, 690, 926, 933, 918, 910, 946, 846, 856, 836,
        823, 941],
}  # fmt: skip


def frame(size: int, rows: int, cols: int, seed: int = 3, dtype: str = "uint16") -> np.ndarray:
    """Raw numbers of a frame, all filters different."""
    return np.random.default_rng(seed).integers(0, 250 if dtype == "uint8" else 1000, (rows, cols)).astype(dtype)


def write(path: Path, values: np.ndarray) -> Path:
    """As PNG, TIFF or ENVI, by the ending."""
    driver = {".png": "PNG", ".tif": "GTiff", ".img": "ENVI"}[path.suffix]
    with rasterio.open(
        path, "w", driver=driver, height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype
    ) as out:
        out.write(values, 1)
    return path


def calibration(
    path: Path, size: int, area: tuple[int, int, int, int], *, peaks=None, matrices: dict | None = None, head: str = "",
    layout: str = "MOSAIC",
) -> Path:  # fmt: skip
    """XML of a sensor with one filter zone; `area` is x, y, width, height, `matrices` name: (wavelengths, coefficients)."""
    peaks = peaks or PEAKS[size]
    bands = "".join(
        f'<band index="{n}"><peaks><peak order="2"><wavelength_nm>{p / 1.9:.2f}</wavelength_nm><fwhm_nm>5</fwhm_nm>'
        f'<contribution>0.1</contribution></peak><peak order="1"><wavelength_nm>{p}</wavelength_nm>'
        f"<fwhm_nm>{10 + n / 10}</fwhm_nm><contribution>0.9</contribution></peak></peaks></band>"
        for n, p in enumerate(peaks)
    )
    corrections = "".join(
        f"<correction_matrix><name>{name}</name><virtual_bands>"
        + "".join(
            f"<virtual_band><wavelength_nm>{w}</wavelength_nm><fwhm_nm>12</fwhm_nm>"
            f"<coefficients>{', '.join(str(float(c)) for c in row)}</coefficients></virtual_band>"
            for w, row in zip(waves, rows, strict=True)
        )
        + "</virtual_bands></correction_matrix>"
        for name, (waves, rows) in (matrices or {}).items()
    )
    x, y, width, height = area
    path.write_text(
        f'<?xml version="1.0"?>{head}<sensor_calibration><sensor_info><sensor_type_name>CMV2K-SSM{size}x{size}'
        "</sensor_type_name></sensor_info><filter_info><calibration_info><wavelength_range_start_nm>400"
        "</wavelength_range_start_nm></calibration_info><filter_zones>"
        f'<filter_zone layout="{layout}"><pattern_width>{size}</pattern_width><pattern_height>{size}</pattern_height>'
        f"<filter_area><offset_x>{x}</offset_x><offset_y>{y}</offset_y><width>{width}</width><height>{height}</height>"
        f"</filter_area><bands>{bands}</bands></filter_zone></filter_zones></filter_info><system_info>"
        f"<spectral_correction_info><correction_matrices>{corrections}</correction_matrices></spectral_correction_info>"
        "</system_info></sensor_calibration>"
    )
    return path
