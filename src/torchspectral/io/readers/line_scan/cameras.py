"""What the headers of line-scan cameras say about the exposure, and which camera wrote them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.io.readers.envi.header import EnviHeader
from torchspectral.io.readers.facts import iso_time

CAMERAS = ("headwall", "specim", "resonon", "hyspex")
_TITLES = {"headwall": "Headwall", "specim": "Specim", "resonon": "Resonon", "hyspex": "HySpex"}
_SIGNS = {
    "headwall": re.compile(r"headwall|hyperspec\b", re.I),
    "specim": re.compile(r"specim|\blumo\b|\baisa|\b(?:FX10|FX17|FX50|FX120|GX17)e?c?\b", re.I),
    "resonon": re.compile(r"resonon|\bpika\b|spectronon", re.I),
    "hyspex": re.compile(r"hyspex|mjolnir|baldur|(?:VNIR|SWIR)[ _-]\w*_SN-?\d+", re.I),
}
_KEYS = {
    "specim": ("fps", "tint", "himg", "vimg", "autodarkstartline", "fodis", "vroi", "hroi"),
    "resonon": ("imager type", "imager serial number", "shutter", "framerate", "flip radiometric calibration"),
    "hyspex": ("frameperiod", "integrationtime", "pixelsize x", "number of background", "scanningmode"),
}
# Attribute: keys that state it, by camera ("" for any), and the factor to its unit.
_Rule = tuple[str, tuple[str, ...], float]
_EXPOSURE: dict[str, tuple[_Rule, ...]] = {
    # ms; HySpex counts in microseconds.
    "integration_time": (
        ("hyspex", ("integrationtime", "integration time", "int time"), 1e-3),
        ("", ("tint", "shutter", "integration time", "integrationtime", "exposure", "exposure time"), 1.0),
    ),
    # Hz
    "frame_rate": (("", ("fps", "framerate", "frame rate", "frames per second"), 1.0),),
    "temperature": (
        (
            "",
            ("temperature", "sensor temperature", "fpa temperature", "vnir temperature", "swir temperature", "temp"),
            1.0,
        ),
    ),
    "gain": (("", ("gain", "camera gain"), 1.0),),
    "spectral_binning": (("", ("spectral binning",), 1.0),),
    "spatial_binning": (("", ("spatial binning", "sample binning"), 1.0),),
    "ceiling": (("", ("ceiling",), 1.0),),
    "pixel_size_x": (("hyspex", ("pixelsize x", "pixelsize_x", "pixelsize"), 1.0),),
    "pixel_size_y": (("hyspex", ("pixelsize y", "pixelsize_y"), 1.0),),
}
_SERIAL = ("sensorid", "imager serial number", "serialnumber", "serial number", "sn", "camera id", "sensor serial")


def camera_of(header: EnviHeader, fields: Mapping[str, str]) -> str:
    """Which camera a header is of, one of `CAMERAS`; "" where nothing tells."""
    words = " ".join(fields.get(k, "") for k in ("description", "sensor type", "sensor", "imager type", "id", "camera"))
    for camera, sign in _SIGNS.items():
        if sign.search(words):
            return camera
    for camera, keys in _KEYS.items():
        if sum(key in fields for key in keys) >= 2:
            return camera
    if header.path.name.lower().endswith(".hyspex.hdr") or header.path.with_suffix(".hyspex").is_file():
        return "hyspex"
    return ""


def all_fields(header: EnviHeader) -> dict[str, str]:
    """Fields of a header, and the ``key = value`` lines that HySpex and Headwall put into the description."""
    found: dict[str, str] = {}
    for part in re.split(r"[\n,;]", header.fields.get("description", "")):
        key, equals, value = part.partition("=")
        if equals and 0 < len(key.strip()) < 60:
            found[" ".join(key.lower().split())] = value.strip()
    return found | header.fields


def exposure(camera: str, fields: Mapping[str, str], data: Path) -> dict[str, Any]:
    """Attributes ``integration_time`` [ms], ``frame_rate`` [Hz], ``temperature`` [degC], ``gain``, ``serial``, ..."""
    found: dict[str, Any] = {}
    for name, rules in _EXPOSURE.items():
        for owner, keys, factor in rules:
            if name in found or (owner and owner != camera):
                continue
            value = next((v for key in keys if (v := _numbers(fields.get(key, ""))) is not None), None)
            if value is not None:
                found[name] = float(value[0] * factor)
    period = _numbers(fields.get("frameperiod", ""))
    if camera == "hyspex" and "frame_rate" not in found and period is not None and period[0] > 0:
        found["frame_rate"] = 1e6 / float(period[0])
    binning = _numbers(fields.get("binning", ""))
    if binning is not None:
        found.setdefault("spectral_binning", float(binning[0]))
        if binning.size > 1:
            found.setdefault("spatial_binning", float(binning[1]))
    serial = next((fields[key] for key in _SERIAL if fields.get(key, "").strip()), "")
    if not serial and camera == "hyspex":
        in_name = re.search(r"SN-?(\d+)", f"{data.name} {fields.get('id', '')} {fields.get('description', '')}")
        serial = in_name[1].lstrip("0") if in_name else ""
    if serial:
        found["serial"] = " ".join(serial.split())
    time = _acquired(fields)
    if time:
        found["acquired"] = time
    return found


def sensor_name(camera: str, fields: Mapping[str, str]) -> str:
    """Name of the camera: its maker, and its model where the header has one."""
    title = _TITLES.get(camera, "")
    for key in ("imager type", "sensor type", "id", "camera"):
        model = " ".join(fields.get(key, "").split())
        if model and model.lower() not in ("unknown", "none"):
            return model if not title or title.lower() in model.lower() else f"{title} {model}"
    described = re.search(r"\[(HEADWALL [^\]]+)\]", fields.get("description", ""), re.I)
    return f"Headwall {described[1][9:]}" if described else title


def _numbers(text: str) -> np.ndarray | None:
    """Numbers of a value such as "12.5", "{2, 1}" or "[1x1]"; None where it has none."""
    found = re.findall(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", text)
    values = np.array([float(v) for v in found[:16]])
    return values if values.size and bool(np.isfinite(values).all()) else None


_TIMES: tuple[Callable[[Mapping[str, str]], str], ...] = (
    lambda f: f.get("acquisition time", ""),
    lambda f: f"{_day(f.get('acquisition date', ''))}T{_clock(f.get('start time', ''))}",
    lambda f: f.get("timestamp", ""),
    lambda f: f"{_day(f.get('date', ''))}T{_clock(f.get('start time', f.get('time', '')))}",
)


def _acquired(fields: Mapping[str, str]) -> str:
    return next((time for read in _TIMES if (time := iso_time(read(fields)))), "")


def _day(text: str) -> str:
    """2023-05-01 of "DATE(yyyy-mm-dd): 2023-05-01" (Specim)."""
    found = re.search(r"(\d{4}-\d{2}-\d{2})", text)
    return found[1] if found else ""


def _clock(text: str) -> str:
    """11:12:13 of "UTC TIME: 11:12:13" (Specim)."""
    found = re.search(r"(\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)", text)
    return found[1].zfill(8) if found else ""
