"""Patch sets as they lie on disk, a few files each; written from the specifications, with nothing of the readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
EUROSAT = [
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop", "Residential",
    "River", "SeaLake",
]  # fmt: skip


def tif(
    path: Path, values: np.ndarray, *, nodata=None, east: float = 500_000.0, north: float = 5_300_000.0, pixel=30.0
):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path, "w", driver="GTiff", count=values.shape[0], height=values.shape[1], width=values.shape[2],
        dtype=values.dtype, nodata=nodata, crs="EPSG:32632", transform=from_origin(east, north, pixel, pixel),
    ) as data:  # fmt: skip
        data.write(values)
    return path


def pretraining(root: Path, places: int = 6, side: int = 8, bands: int = 202) -> Path:
    """``enmap/<location>/<any>.tif``; every second place has two dates; the values tell place and date."""
    for place in range(places):
        for date in range(1 + place % 2):
            values = np.full((bands, side, side), 1000 * place + 100 * date + 50, dtype=np.int16)
            values += np.arange(bands, dtype=np.int16)[:, None, None]
            name = f"ENMAP01-____L2A-DT000000{place}_2022{5 + date:02d}11T103000Z_{place}_V010303.tif"
            tif(root / "enmap" / f"loc{place:03d}" / name, values, east=400_000 + 10_000 * place, nodata=-32768)
    return root


def downstream(root: Path, product: str, codes: list[int], dtype: str, images: str = "enmap", bands: int = 202) -> Path:
    """``<images>/<id>.tif`` and ``<product>/<id>.tif`` with lists of the splits."""
    rng = np.random.default_rng(0)
    names = [f"{k:05d}" for k in range(5)]
    for number, name in enumerate(names):
        tif(
            root / images / f"{name}.tif",
            rng.integers(0, 5000, (bands, 6, 6)).astype(np.int16),
            east=4e5 + 5e3 * number,
        )
        mask = np.asarray(codes, dtype=dtype)[rng.integers(0, len(codes), (6, 6))]
        tif(root / product / f"{name}.tif", mask, east=4e5 + 5e3 * number)
    (root / "splits").mkdir()
    for part, chosen in (("train", names[:3]), ("val", names[3:4]), ("test", names[4:])):
        (root / "splits" / f"{part}.txt").write_text("".join(f"{name}.tif\n" for name in chosen))
    return root


def hyperview(root: Path) -> Path:
    rng = np.random.default_rng(1)
    (root / "hyperview").mkdir(parents=True)
    for k in range(4):
        np.savez(root / "hyperview" / f"{k}.npz", data=rng.integers(0, 4000, (150, 5 + k, 7)).astype(np.int64))
    header = "sample_index,P,K,Mg,pH\n"
    (root / "train.csv").write_text(header + "".join(f"{k},{0.1 * k},1.0,-1.0,0.5\n" for k in range(3)))
    (root / "val.csv").write_text(header + "3,0.3,1.0,-1.0,0.5\n")
    return root


def eurosat(root: Path, quirk: bool = True, count: int = 2) -> Path:
    """Thirteen bands in the file's order: B8A last, B10 nearly dark; the values are the numbers of the bands."""
    order = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8.5] if quirk else [1, 2, 3, 4, 5, 6, 7, 8, 8.5, 9, 10, 11, 12]
    level = np.array([12 if b == 10 else 100 * b for b in order], dtype=np.uint16)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, name in enumerate(EUROSAT):
        for k in range(1, count + 1):
            values = np.broadcast_to(level[:, None, None], (13, 64, 64)).copy()
            tif(
                root / "tif" / name / f"{name}_{k}.tif",
                values,
                east=4e5 + 2e3 * number,
                north=5e6 + 2e3 * k,
                pixel=10.0,
            )
            lists[("train", "val", "test")[(k - 1) % 3]].append(f"{name}_{k}.jpg")
    for part, names in lists.items():
        (root / f"eurosat-{part}.txt").write_text("\n".join(names))
    return root


def _s2_patch(folder: Path, name: str, level: int, east: float) -> None:
    for band in [b for b in S2 if b != "B10"]:
        size, pixel = (
            (20, 60.0)
            if band in ("B01", "B09")
            else (60, 20.0)
            if band[1:] in ("05", "06", "07", "8A", "11", "12")
            else (120, 10.0)
        )
        values = np.full((size, size), level + S2.index(band), dtype=np.uint16)
        tif(folder / f"{name}_{band}.tif", values, east=east, pixel=pixel)


def bigearthnet1(root: Path) -> Path:
    labels = [["Non-irrigated arable land", "Pastures"], ["Road and rail networks and associated land", "Sea and ocean"],
              ["Mineral extraction sites"]]  # fmt: skip
    names = [f"S2A_MSIL2A_20170613T101031_{k}_4{k}" for k in range(3)]
    for k, name in enumerate(names):
        _s2_patch(root / name, name, 1000 * (k + 1), 4e5 + 2e3 * k)
        facts = {"labels": labels[k], "acquisition_date": "2017-06-13 10:11:11", "projection": "EPSG:32632"}
        (root / name / f"{name}_labels_metadata.json").write_text(json.dumps(facts))
    (root / "train.csv").write_text(names[0] + "\n" + names[2] + "\n")
    (root / "val.csv").write_text(names[1] + "\n")
    return root


def bigearthnet2(root: Path) -> Path:
    tile = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
    rows = ["patch_id,labels,split,country,s1_name,s2v1_name,contains_seasonal_snow,contains_cloud_or_shadow"]
    for k, split in enumerate(("train", "validation", "test")):
        name = f"{tile}_2{k}_57"
        _s2_patch(root / "BigEarthNet-S2" / tile / name, name, 500 * (k + 1), 4e5 + 2e3 * k)
        reference = np.full((120, 120), 211, dtype=np.uint16)
        reference[:60] = 123
        tif(
            root / "Reference_Maps" / tile / name / f"{name}_reference_map.tif",
            reference,
            east=4e5 + 2e3 * k,
            pixel=10.0,
        )
        rows.append(f"{name},\"['Arable land' 'Marine waters']\",{split},Austria,S1A_x,S2A_x,False,False")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def segmunich(root: Path) -> Path:
    rng = np.random.default_rng(3)
    codes = np.array([0, 21, 22, 23, 31, 32, 33, 41, 13, 14, 11, 12, 255], dtype=np.uint8)
    for k in range(3):
        tif(root / "TUM_128" / "img" / f"m_{k}.tif", rng.integers(0, 3000, (10, 16, 16)).astype(np.uint16), pixel=10.0)
        tif(root / "TUM_128" / "label" / f"m_{k}.tif", codes[np.arange(256).reshape(16, 16) % codes.size], pixel=10.0)
    (root / "TUM_128" / "train.txt").write_text("m_0\nm_1\n")
    (root / "TUM_128" / "val.txt").write_text("m_2\n")
    return root


def oscd(root: Path, rows: int = 150, cols: int = 140) -> Path:
    images = root / "Onera Satellite Change Detection dataset - Images"
    for number, (city, split) in enumerate((("abudhabi", "Train"), ("beirut", "Train"), ("brasilia", "Test"))):
        for date in (1, 2):
            for k, band in enumerate(S2):
                values = (np.arange(rows)[:, None] * 10 + np.arange(cols) + 1000 * date + k).astype(np.uint16)
                tif(images / city / f"imgs_{date}_rect" / f"{band}.tif", values, east=4e5 + 5e4 * number, pixel=10.0)
        (images / city / "dates.txt").write_text("date_1: 20160120\ndate_2: 20180328\n")
        change = np.ones((rows, cols), dtype=np.uint8)
        change[:20, :30] = 2
        tif(
            root / f"Onera Satellite Change Detection dataset - {split} Labels" / city / "cm" / f"{city}-cm.tif", change
        )
    (images / "train.txt").write_text("abudhabi,beirut")
    (images / "test.txt").write_text("brasilia")
    return root


def tabled(root: Path) -> Path:
    rows = ["optical_path,split,label"]
    for k in range(4):
        tif(root / "data" / f"s_{k}.tif", np.full((10, 8, 8), 100 * k, dtype=np.uint16), east=4e5 + 1e3 * k)
        rows.append(f"data/s_{k}.tif,{('train', 'train', 'val', 'test')[k]},{k % 3}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root
