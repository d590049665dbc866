"""Writes miniature Sentinel-2 products from ESA's layout, and items of an archive's copies; shares nothing with the reader."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
SIZES = {10: ["B02", "B03", "B04", "B08"], 20: ["B05", "B06", "B07", "B8A", "B11", "B12"], 60: ["B01", "B09", "B10"]}
CENTRES = [442.3, 492.1, 559.0, 665.0, 703.8, 739.1, 779.7, 833.0, 864.0, 943.2, 1376.9, 1610.4, 2185.7]
PIXELS = {10: 36, 20: 18, 60: 6}
TILE, TIME = "T32TPS", "20240830T100559"
UL = (600000.0, 5000040.0)


def write_image(path: Path, values: np.ndarray, size: int, *, jp2: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values if values.ndim == 3 else values[None]
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if jp2 else {"compress": "deflate"}
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG" if jp2 else "GTiff", count=values.shape[0], height=values.shape[1],
        width=values.shape[2], dtype=values.dtype, crs="EPSG:32632", transform=Affine(size, 0, UL[0], 0, -size, UL[1]),
        **options,
    ) as out:  # fmt: skip
        out.write(values)


def numbers(band: str, size: int, side: int, top: int = 12000) -> np.ndarray:
    rng = np.random.default_rng(BANDS.index(band) * 100 + size)
    values = rng.integers(1, top, (side, side)).astype(np.uint16)
    unit = side // PIXELS[60]
    values[:unit, :unit] = 0
    if band == "B04":
        values[unit, unit] = 65535
    return values


def mtd(level: str, baseline: str, offsets: dict[int, float] | None, quantification: bool = True) -> str:
    kind, listed = ("BOA", "BOA_ADD_OFFSET_VALUES_LIST") if level == "L2A" else ("RADIO", "Radiometric_Offset_List")
    add = "".join(f'<{kind}_ADD_OFFSET band_id="{i}">{v:g}</{kind}_ADD_OFFSET>' for i, v in (offsets or {}).items())
    quant = (
        "<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit=\"none\">10000</BOA_QUANTIFICATION_VALUE>"
        "</QUANTIFICATION_VALUES_LIST>" if level == "L2A" else '<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>'
    )  # fmt: skip
    spectral = "".join(
        f'<Spectral_Information bandId="{i}" physicalBand="{b.replace("B0", "B")}"><Wavelength><MIN unit="nm">{c - 20}</MIN>'
        f'<MAX unit="nm">{c + 20}</MAX><CENTRAL unit="nm">{c}</CENTRAL></Wavelength>'
        '<Spectral_Response><STEP unit="nm">1</STEP><VALUES>0 0.25 1 1 1 1 1 1 1 1 1 0.25 0</VALUES></Spectral_Response>'
        "</Spectral_Information>"
        for i, (b, c) in enumerate(zip(BANDS, CENTRES, strict=True))
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><n1:Level-{level[1:]}_User_Product xmlns:n1="https://psd-15.sentinel2.eo.'
        f'esa.int/PSD/User_Product_Level-{level[1:]}.xsd"><n1:General_Info><Product_Info>'
        f"<PRODUCT_START_TIME>2024-08-30T10:05:59.024Z</PRODUCT_START_TIME><PRODUCT_URI>{safe_name(level)}</PRODUCT_URI>"
        f"<PROCESSING_LEVEL>Level-{level[1:]}</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>"
        "<Datatake><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME></Datatake></Product_Info><Product_Image_Characteristics>"
        f"{quant if quantification else ''}{f'<{listed}>{add}</{listed}>' if offsets else ''}"
        f"<Spectral_Information_List>{spectral}</Spectral_Information_List></Product_Image_Characteristics>"
        f"</n1:General_Info></n1:Level-{level[1:]}_User_Product>"
    )


def tile_xml(level: str) -> str:
    def grid(start: float) -> str:
        rows = "".join(f"<VALUES>{start + r:g} {start + r + 0.5:g} NaN</VALUES>" for r in range(3))
        return f'<COL_STEP unit="m">5000</COL_STEP><ROW_STEP unit="m">5000</ROW_STEP><Values_List>{rows}</Values_List>'

    views = "".join(
        f'<Viewing_Incidence_Angles_Grids bandId="{b}" detectorId="1"><Zenith>{grid(4 + b)}</Zenith>'
        f"<Azimuth>{grid(359 if b else 0)}</Azimuth></Viewing_Incidence_Angles_Grids>"
        for b in (0, 1)
    )
    means = "".join(
        f'<Mean_Viewing_Incidence_Angle bandId="{b}"><ZENITH_ANGLE unit="deg">{5 + b}</ZENITH_ANGLE>'
        f'<AZIMUTH_ANGLE unit="deg">100</AZIMUTH_ANGLE></Mean_Viewing_Incidence_Angle>'
        for b in (0, 1)
    )
    places = "".join(
        f'<Geoposition resolution="{s}"><ULX>{UL[0]:g}</ULX><ULY>{UL[1]:g}</ULY><XDIM>{s}</XDIM><YDIM>-{s}</YDIM></Geoposition>'
        for s in PIXELS
    )
    return (
        f'<?xml version="1.0"?><n1:Level-{level[1:]}_Tile_ID xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD/x.xsd">'
        "<n1:General_Info><SENSING_TIME>2024-08-30T10:11:21.919283Z</SENSING_TIME></n1:General_Info><n1:Geometric_Info>"
        f"<Tile_Geocoding><HORIZONTAL_CS_CODE>EPSG:32632</HORIZONTAL_CS_CODE>{places}</Tile_Geocoding><Tile_Angles>"
        f"<Sun_Angles_Grid><Zenith>{grid(38)}</Zenith><Azimuth>{grid(150)}</Azimuth></Sun_Angles_Grid>"
        '<Mean_Sun_Angle><ZENITH_ANGLE unit="deg">38.5</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">151.5</AZIMUTH_ANGLE>'
        f"</Mean_Sun_Angle>{views}<Mean_Viewing_Incidence_Angle_List>{means}</Mean_Viewing_Incidence_Angle_List>"
        f"</Tile_Angles></n1:Geometric_Info></n1:Level-{level[1:]}_Tile_ID>"
    )


def safe_name(level: str) -> str:
    return f"S2B_MSI{level}_20240830T100559_N0511_R022_T32TPS_20240830T134009.SAFE"


def write_safe(
    folder: Path, level: str = "L2A", *, baseline: str = "05.11", offsets: dict[int, float] | None = None,
    copies: bool = True, masks: bool = True, quantification: bool = True,
) -> tuple[Path, dict[str, np.ndarray]]:  # fmt: skip
    """A SAFE folder; returns it and the stored numbers by band (own pixel size), SCL included."""
    safe = folder / safe_name(level)
    granule = safe / "GRANULE" / f"{level}_{TILE}_A038765_{TIME}"
    stored: dict[str, np.ndarray] = {}
    for size, bands in SIZES.items():
        for band in bands:
            if level == "L2A" and band == "B10":
                continue
            stored[band] = numbers(band, size, PIXELS[size])
            where = granule / "IMG_DATA"
            name = f"{TILE}_{TIME}_{band}.jp2"
            if level == "L2A":
                where, name = where / f"R{size}m", f"{TILE}_{TIME}_{band}_{size}m.jp2"
            write_image(where / name, stored[band], size)
    if level == "L2A":
        if copies:
            for band in ("B02", "B03", "B04"):
                stored[f"{band}_20m"] = numbers(band, 20, PIXELS[20])
                write_image(granule / "IMG_DATA" / "R20m" / f"{TILE}_{TIME}_{band}_20m.jp2", stored[f"{band}_20m"], 20)
        classes = np.tile(np.arange(18, dtype=np.uint8) % 12, (18, 1))
        stored["SCL"] = classes
        write_image(granule / "IMG_DATA" / "R20m" / f"{TILE}_{TIME}_SCL_20m.jp2", classes, 20)
        for kind, value in (("AOT", 150), ("WVP", 2500)):
            maps = np.full((18, 18), value, np.uint16)
            write_image(granule / "IMG_DATA" / "R20m" / f"{TILE}_{TIME}_{kind}_20m.jp2", maps, 20)
        if masks:
            write_image(granule / "QI_DATA" / "MSK_CLDPRB_20m.jp2", np.full((18, 18), 40, np.uint8), 20)
    elif masks:
        kinds = np.zeros((3, 6, 6), np.uint8)
        kinds[0, 1, 1], kinds[1, 2, 2], kinds[2, 3, 3] = 1, 1, 1
        stored["CLASSI"] = kinds
        write_image(granule / "QI_DATA" / "MSK_CLASSI_B00.jp2", kinds, 60)
    (safe / f"MTD_MSI{level}.xml").write_text(mtd(level, baseline, offsets, quantification))
    (granule / "MTD_TL.xml").write_text(tile_xml(level))
    return safe, stored


def zip_safe(safe: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(p for p in safe.rglob("*") if p.is_file()):
            out.write(file, f"{safe.name}/{file.relative_to(safe).as_posix()}")
    return archive


def write_item(
    folder: Path, *, baseline: str | None = "05.11", flag: bool | None = None, offset: float | None = None,
    scale: bool = True, href: str = "./{}.tif", bands: tuple[str, ...] = ("B02", "B03", "B04", "B08", "B11"),
) -> tuple[Path, dict[str, np.ndarray]]:  # fmt: skip
    """GeoTIFFs and a STAC item, as archives keep them."""
    folder.mkdir(parents=True, exist_ok=True)
    stored, assets = {}, {}
    for band in bands:
        size = next(s for s, listed in SIZES.items() if band in listed)
        stored[band] = numbers(band, size, PIXELS[size])
        write_image(folder / f"{band}.tif", stored[band], size, jp2=False)
        raster: dict[str, object] = {"nodata": 0, "data_type": "uint16", "spatial_resolution": size}
        if scale:
            raster["scale"] = 0.0001
        if offset is not None:
            raster["offset"] = offset
        assets[band.lower()] = {
            "href": href.format(band), "type": "image/tiff; application=geotiff", "roles": ["data", "reflectance"],
            "eo:bands": [{"name": band, "center_wavelength": CENTRES[BANDS.index(band)] / 1000}],
            "raster:bands": [raster],
        }  # fmt: skip
    properties: dict[str, object] = {
        "datetime": "2024-08-30T10:11:21.919283Z", "platform": "sentinel-2b", "constellation": "sentinel-2",
        "view:sun_elevation": 51.5, "view:sun_azimuth": 151.5,
    }  # fmt: skip
    if baseline is not None:
        properties["s2:processing_baseline"] = baseline
    if flag is not None:
        properties["earthsearch:boa_offset_applied"] = flag
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2B_32TPS_20240830_0_L2A", "properties": properties,
        "geometry": None, "links": [], "assets": assets,
    }  # fmt: skip
    path = folder / "S2B_32TPS_20240830_0_L2A.json"
    path.write_text(json.dumps(item))
    return path, stored
