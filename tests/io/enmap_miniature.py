"""Writes miniature EnMAP products from the published layout; shares nothing with the reader."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

STEM = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20220725T083210Z"
# Centres, widths and detectors of the overlap as the real Potsdam scene has them (its band tags), thinned outside it.
VNIR = [
    (418.24, 7.0), (550.1, 6.6), (670.2, 7.6), (800.0, 9.17), (847.6, 9.58), (871.4, 9.82), (887.5, 9.99),
    (895.5, 10.08), (903.6, 10.16), (911.7, 10.25), (919.8, 10.34), (928.0, 10.42), (936.1, 10.51), (944.2, 10.59),
    (952.4, 10.66), (960.5, 10.72), (968.6, 10.75), (976.8, 10.75), (984.9, 10.72), (993.1, 10.64),
]  # fmt: skip
SWIR = [
    (902.3, 9.18), (911.9, 9.32), (921.6, 9.45), (931.5, 9.58), (941.5, 9.71), (951.7, 9.83), (961.9, 9.94),
    (972.3, 10.06), (982.9, 10.16), (993.5, 10.27), (1004.2, 10.37), (1015.0, 10.48), (1250.0, 11.0),
    (1390.0, 11.2), (1400.0, 11.2), (2445.5, 7.6),
]  # fmt: skip


def bands(order: str) -> list[tuple[float, float, str]]:
    both = [(w, f, "vnir") for w, f in VNIR] + [(w, f, "swir") for w, f in SWIR]
    return sorted(both) if order == "wavelength" else both


def xml(
    table: list[tuple[float, float, str]],
    level: str,
    *,
    lists: bool = True,
    statistics: bool = True,
    empty: tuple[int, ...] = (),
    gain: float = 1e-4,
    offset: float = 0.0,
    image: str = "x-SPECTRAL_IMAGE.TIF",
    rpc: bool = False,
) -> str:
    chars = "".join(
        f'<bandID number="{i}"><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand><FWHMOfBand>{f}</FWHMOfBand>'
        f"<GainOfBand>{gain}</GainOfBand><OffsetOfBand>{offset}</OffsetOfBand></bandID>"
        for i, (w, f, _) in enumerate(table, 1)
    )
    stats = "".join(
        f'<bandID number="{i}"><mean>{-1000000 if i in empty else 1234}</mean>'
        f"<stdDeviation>{0 if i in empty else 12.5}</stdDeviation></bandID>"
        for i in range(1, len(table) + 1)
    )
    navigation = (
        "<navigation><RPC>"
        + "".join(
            f'<bandID number="{i}"><ROW_OFF>{512.25 + i}</ROW_OFF><LINE_NUM_COEFF>0.5 {i} -1e-6</LINE_NUM_COEFF></bandID>'
            for i in range(1, len(table) + 1)
        )
        + "</RPC></navigation>"
    )
    quality = ""
    for name in ("vnir", "swir"):
        numbers = [str(i) for i, b in enumerate(table, 1) if b[2] == name]
        inside = f"<numChannelsExpected>{len(numbers)}</numChannelsExpected>"
        if lists:
            inside += f"<expectedChannelsList>{','.join(numbers)}</expectedChannelsList>"
        quality += f"<{name}ProductQuality>{inside}</{name}ProductQuality>"
    angle = "".join(
        f"<{tag}><upper_left>1.0</upper_left><center>{value}</center></{tag}>"
        for tag, value in (
            ("sunElevationAngle", 55.25), ("sunAzimuthAngle", 151.5), ("acrossOffNadirAngle", -7.5),
            ("sceneAzimuthAngle", 13.0),
        )
    )  # fmt: skip
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<level_X xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<base><level>{level}</level><revision>01.03.02</revision>
<temporalCoverage><startTime>2022-07-24T10:45:26.123456Z</startTime><stopTime>2022-07-24T10:45:30.5Z</stopTime></temporalCoverage>
<spatialCoverage><boundingPolygon><point><frame>upper_left</frame><longitude>12.9</longitude><latitude>52.4</latitude></point></boundingPolygon></spatialCoverage></base>
<specific><bandCharacterisation>{chars}</bandCharacterisation>{quality}{angle}
<meanGroundElevation>41</meanGroundElevation><qualityFlag><sceneAOT>150</sceneAOT><sceneWV>2500</sceneWV></qualityFlag></specific>
<product><bandStatistics>{stats if statistics else ""}</bandStatistics>{navigation if rpc else ""}
<image><merge><name>{image}</name></merge></image></product>
</level_X>"""


def write_raster(
    path: Path, values: np.ndarray, *, nodata: float | None = None, placed: bool = True, scale: float | None = None,
    driver: str = "GTiff", tags: list[dict[str, str]] | None = None,
) -> None:  # fmt: skip
    options = {} if driver == "ENVI" else {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    if placed:
        options |= {"transform": Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0), "crs": "EPSG:32633"}
    with rasterio.open(
        path, "w", driver=driver, count=values.shape[0], height=values.shape[1], width=values.shape[2],
        dtype=values.dtype, nodata=nodata, **options,
    ) as out:  # fmt: skip
        out.write(values)
        if scale is not None:
            out.scales = [scale] * values.shape[0]
        for number, items in enumerate(tags or [], 1):
            out.update_tags(number, **items)


def write_product(
    folder: Path, level: str = "L2A", *, order: str = "wavelength", lower: bool = False, suffix: str = ".TIF",
    cog: bool = False, lists: bool = True, statistics: bool = True, scale: float | None = None, gain: float = 1e-4,
    offset: float = 0.0, size: tuple[int, int] = (20, 24), nodata: float | None = -32768,
    rpc: bool = False,
) -> tuple[Path, np.ndarray, list[tuple[float, float, str]]]:  # fmt: skip
    """Write one product; returns the XML path, the stored numbers (band, y, x) and the band table."""
    stem = STEM.replace("L2A", level)
    if level == "L1B":
        order = "detector"
    table = bands(order)
    empty = tuple(i for i, (w, _, _) in enumerate(table, 1) if 1380 < w < 1410)
    rng = np.random.default_rng(7)
    kind = np.int16 if level == "L2A" else np.uint16
    values = rng.integers(100, 9000, (len(table), *size)).astype(kind)
    if level == "L2A":
        values[:, 0, :3] = -32768
        values[[i - 1 for i in empty]] = -32768
    name = (lambda text: text.lower()) if lower else (lambda text: text)
    tail = "_COG" if cog else ""
    folder.mkdir(parents=True, exist_ok=True)
    meta = folder / f"{stem}-{name('METADATA')}{name('.XML')}"
    image = f"{stem}-SPECTRAL_IMAGE{tail}{suffix}"
    driver = "ENVI" if suffix.lower() in (".bsq", ".bil") else "GTiff"
    meta.write_text(
        xml(
            table,
            level,
            lists=lists,
            statistics=statistics,
            empty=empty,
            gain=gain,
            offset=offset,
            image=image,
            rpc=rpc,
        ),
        encoding="utf-8",
    )
    if level == "L1B":
        count = len(VNIR)
        write_raster(folder / f"{stem}-SPECTRAL_IMAGE_VNIR{suffix}", values[:count], placed=False)
        write_raster(folder / f"{stem}-SPECTRAL_IMAGE_SWIR{suffix}", values[count:], placed=False)
    else:
        write_raster(folder / image, values, nodata=nodata, scale=scale, driver=driver)
        classes = np.ones((1, *size), np.uint8)
        classes[0, 5:8] = 2
        classes[0, 0, :3] = 3
        cloud = np.zeros((1, *size), np.uint8)
        cloud[0, 10:12, 4:9] = 1
        cirrus = np.zeros((1, *size), np.uint8)
        cirrus[0, 14, 2:6] = [1, 2, 3, 1]
        for part, raster in (("CLASSES", classes), ("CLOUD", cloud), ("CLOUDSHADOW", np.roll(cloud, 3, 1)),
                             ("CIRRUS", cirrus), ("HAZE", cloud * 0), ("SNOW", cloud * 0),
                             ("TESTFLAGS_VNIR", classes * 4)):  # fmt: skip
            write_raster(folder / f"{stem}-QL_QUALITY_{part}{tail}{suffix}", raster, driver=driver)
        mask = np.zeros((3, *size), np.uint8)
        mask[1, 2, 2] = 1
        write_raster(folder / f"{stem}-QL_PIXELMASK{tail}{suffix}", mask, driver=driver)
    return meta, values, table


def zip_product(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The product as DLR sends it: <stem>/<files> in a ZIP."""
    stem = next(folder.glob("*METADATA*")).name.rsplit("-", 1)[0]
    with zipfile.ZipFile(archive, "w", method) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, f"{stem}/{file.name}")
    return archive
