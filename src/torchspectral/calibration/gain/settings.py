"""Settings of the practical tools."""

from __future__ import annotations

from typing import Literal

from torchspectral.settings import Settings, setting


class OverlapSettings(Settings):
    """Settings of gains from overlapping lines."""

    groups: Literal["refuse", "each"] = setting(
        "refuse", "detectors that fall into groups without common ground: refuse, or calibrate each group by itself"
    )
    offset: Literal["none", "solve"] = setting(
        "none", "offsets of detectors: none (dark was taken off), or solved for with mean 0"
    )
    registration: Literal["nearest", "bilinear"] = setting(
        "nearest",
        "ground cells: the one a pixel falls into, or bilinear between four (LSQR; holds the lines in memory)",
    )
    cell: float | None = setting(
        None, "side of a ground cell; the pixel spacing by default", unit="m or CRS unit", gt=0, allow_inf_nan=False
    )
    snr: float | None = setting(
        None,
        "known signal-to-noise ratio: noise is corrected for and errors predicted with it",
        unit="dB",
        gt=0,
        le=200,
    )
    ridge: float = setting(0.0, "pull of gains towards 1, times trace(G) / detectors", ge=0, allow_inf_nan=False)
    saturation: float | None = setting(
        None, "stored values from here on are masked; the header's or the converter's ceiling by default",
        unit="units of the scene", allow_inf_nan=False,
    )  # fmt: skip


class SpectralSettings(Settings):
    """Settings of gains of bands from known spectra."""

    k: list[int] = setting([10, 15, 20], "basis sizes to choose from on held-out pixels", min_length=1)
    ridge: list[float] = setting(
        [0.003, 0.01, 0.03, 0.1], "priors lambda to choose from, times trace(G) / bands", min_length=1
    )
    degree: int = setting(
        3, "degree of the polynomial of wavelength that gains are projected off; -1: none", ge=-1, le=20
    )
    held_out: float = setting(0.3, "share of the pixels, in blocks, to choose and test on", gt=0, lt=1)
    block: int = setting(16, "side of a block", unit="pixel", ge=1)
    saturation: float | None = setting(
        None, "stored values from here on are masked", unit="units of the scene", allow_inf_nan=False
    )


class FlatSettings(Settings):
    """Settings of column gains from homogeneous targets."""

    terms: int = setting(12, "cosines of the smooth curve across track", ge=1, le=64)
    ridge: float = setting(0.01, "pull of gains towards 1, times trace(G) / columns", gt=0, allow_inf_nan=False)
    saturation: float | None = setting(
        None, "stored values from here on are masked", unit="units of the scene", allow_inf_nan=False
    )


class MomentSettings(Settings):
    """Settings of column moment matching."""

    model: Literal["gain", "gain-offset"] = setting("gain", "means alone by a gain, or means and deviations")
    saturation: float | None = setting(
        None, "stored values from here on are masked", unit="units of the scene", allow_inf_nan=False
    )


class HistogramSettings(Settings):
    """Settings of histogram matching: the gain and offset nearest to it."""

    levels: int = setting(101, "quantiles", ge=3, le=1001)
    lines: int = setting(4096, "lines that are looked at, evenly over all", ge=2)
    saturation: float | None = setting(
        None, "stored values from here on are masked", unit="units of the scene", allow_inf_nan=False
    )


class PolynomialSettings(Settings):
    """Settings of the low-order polynomial flat field."""

    degree: int = setting(3, "degree of the polynomial over columns", ge=0, le=12)
    saturation: float | None = setting(
        None, "stored values from here on are masked", unit="units of the scene", allow_inf_nan=False
    )


METHODS: dict[str, type[Settings]] = {
    "overlap": OverlapSettings,
    "spectral": SpectralSettings,
    "flat": FlatSettings,
    "moments": MomentSettings,
    "histogram": HistogramSettings,
    "polynomial": PolynomialSettings,
}
