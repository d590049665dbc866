"""Every layout on a miniature in its format."""

from __future__ import annotations

import sys
from pathlib import Path

import miniatures
import numpy as np
import pandas as pd
import pytest

from torchspectral.errors import BadInput, BrokenProduct, MissingDependency, UnknownProduct
from torchspectral.learn.patch_sets import open_patch_set
from torchspectral.learn.patch_sets.facts import corine_codes, corine_names

PARTS = ("train", "held-out", "test")


def counts(patches) -> tuple[int, ...]:
    return tuple(patches.count(part) for part in PARTS)


def test_spectralearth_pretraining(tmp_path: Path) -> None:
    patches = open_patch_set(miniatures.pretraining(tmp_path))
    assert patches.layout.name == "spectralearth" and patches.layout.by_place and len(patches) == 9
    assert patches.shape == (202, 8, 8) and patches.bands.quantity == "reflectance"
    # The bands that the statistics of the authors speak for: 19 in a row between the water bands.
    wave = patches.bands.wavelength
    assert wave[0] == 418.24 and np.all(np.diff(wave) > 0)
    assert ((wave > 1525) & (wave < 1735)).sum() == 19 and ((wave > 1735) & (wave < 1969)).sum() == 0
    row = int(patches.rows[2])
    assert patches.index.columns["date"][row] == 20220611
    assert patches.values(row)[3, 0, 0] == pytest.approx((1000 + 100 + 50 + 3) / 10000)
    cube = patches.cube(row)
    assert float(cube.x[0]) == 410_015.0 and float(cube.x[1] - cube.x[0]) == 30.0


@pytest.mark.parametrize(
    ("product", "codes", "dtype"),
    [
        ("cdl", [1, 2, 3, 4, 5, 6, 45, 54, 69, 72, 75, 76, 204, 210], "uint8"),
        ("eurocrops", [3301090205, 3301010600, 3301090303, 3301010800, 3301090301, 3303060000, 3303030600, 3303050000,
                       3303030100, 3301060500, 3301060300, 3303010000, 3301020000, 3301160000, 3301029900], "int64"),
        ("bnetd", [1, 2, 3, 6, 9, 10, 13, 15, 16, 21], "uint8"),
    ],
)  # fmt: skip
def test_spectralearth_masks_become_numbers_in_the_order_of_the_list(
    tmp_path: Path, product: str, codes: list[int], dtype: str
) -> None:
    patches = open_patch_set(miniatures.downstream(tmp_path, product, [0, *codes, 250], dtype))
    assert counts(patches) == (3, 1, 1)
    assert patches.labels["kind"] == "pixels" and len(patches.labels["classes"]) == len(codes)
    assert patches.attrs["leakage"].startswith("published split: 0%")
    import rasterio

    for row in patches.rows.tolist():
        with rasterio.open(tmp_path / patches.index.path(row, "mask")) as data:
            stored = data.read(1)
        expected = np.vectorize(lambda c: codes.index(c) if c in codes else len(codes))(stored)
        assert np.array_equal(patches.mask(row), expected)


def test_corine_becomes_the_nineteen_classes_of_bigearthnet(tmp_path: Path) -> None:
    names = corine_names(19)
    assert (
        len(names) == 19 and len(corine_names(43)) == 43 and names[2] == "Arable land" and names[-1] == "Marine waters"
    )
    table = corine_codes(19)
    assert table[211] == table[12] == 2 and table[122] == -1 and table[523] == table[44] == 18
    patches = open_patch_set(miniatures.downstream(tmp_path, "corine", [211, 523, 122], "uint16"))
    label = patches.label(int(patches.rows[0]))
    assert label is not None and np.flatnonzero(label).tolist() == [2, 18] and patches.labels["kind"] == "multi"


def test_other_sensors_of_spectralearth(tmp_path: Path) -> None:
    patches = open_patch_set(miniatures.downstream(tmp_path / "a", "cdl", [1, 42], "uint8", "desis", 235))
    assert patches.shape[0] == 235 and len(patches.labels["classes"]) == 14 and patches.labels["classes"][4] == "42"
    patches = open_patch_set(miniatures.downstream(tmp_path / "b", "cdl", [1, 204], "uint8", "eo1", 198))
    assert patches.bands.quantity == "dn" and patches.mask(int(patches.rows[0])).max() == 13


def test_hyperview(tmp_path: Path) -> None:
    import torch

    patches = open_patch_set(miniatures.hyperview(tmp_path))
    assert counts(patches) == (3, 1, 0) and patches.shape == (150, 128, 128)
    assert np.allclose(patches.label(1), [0.1, 1.0, -1.0, 0.5])
    with np.load(tmp_path / "hyperview" / "2.npz") as stored:
        field = torch.from_numpy(stored["data"].astype(np.float32))[None]
    expected = torch.nn.functional.interpolate(field, (128, 128), mode="bicubic", align_corners=True)[0].numpy()
    assert np.allclose(patches.values(2), expected, atol=1e-2)


@pytest.mark.parametrize("quirk", [True, False])
def test_eurosat_comes_in_the_order_of_the_sensor(tmp_path: Path, quirk: bool) -> None:
    patches = open_patch_set(miniatures.eurosat(tmp_path, quirk, count=3))
    assert counts(patches) == (10, 10, 10) and patches.labels["classes"][9] == "SeaLake"
    row = int(patches.rows[-1])
    assert patches.label(row).tolist() == [9]
    want = np.array([1, 2, 3, 4, 5, 6, 7, 8, 8.5, 9, 0.12, 11, 12]) / 100
    assert np.allclose(patches.values(row)[:, 5, 5], want)
    assert patches.bands.names[8:11] == ("B8A", "B9", "B10") and patches.bands.wavelength[8] == pytest.approx(
        864, abs=2
    )


def test_bigearthnet_1(tmp_path: Path) -> None:
    patches = open_patch_set(miniatures.bigearthnet1(tmp_path))
    # The third patch has no label of the 19 classes.
    assert counts(patches) == (1, 1, 0) and "1 patches have no label" in "".join(patches.layout.notes)
    assert [np.flatnonzero(patches.label(r)).tolist() for r in (0, 1)] == [[2, 4], [18]]
    values = patches.values(0)
    assert values.shape == (12, 120, 120) and np.allclose(
        values[:, 60, 60] * 1e4, [1000 + miniatures.S2.index(b) for b in miniatures.S2 if b != "B10"]
    )
    full = open_patch_set(tmp_path, layout="bigearthnet-43")
    assert len(full) == 3 and len(full.labels["classes"]) == 43
    assert full.labels["classes"][int(np.flatnonzero(full.label(2))[0])] == "Mineral extraction sites"


def test_bigearthnet_2(tmp_path: Path) -> None:
    patches = open_patch_set(miniatures.bigearthnet2(tmp_path))
    assert counts(patches) == (1, 1, 1) and np.flatnonzero(patches.label(0)).tolist() == [2, 18]
    mask = patches.mask(0)
    assert mask is not None and mask[0, 0] == 19 and mask[100, 0] == 2


def test_parquet_without_its_library_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.bigearthnet2(tmp_path)
    (tmp_path / "metadata.csv").rename(tmp_path / "metadata.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependency, match=r"torchspectral\[train\]"):
        open_patch_set(tmp_path)


def test_bigearthnet_2_with_its_parquet(tmp_path: Path) -> None:
    miniatures.bigearthnet2(tmp_path)
    table = pd.read_csv(tmp_path / "metadata.csv")
    table["labels"] = [["Arable land", "Marine waters"]] * 3
    table.to_parquet(tmp_path / "metadata.parquet")
    (tmp_path / "metadata.csv").unlink()
    assert counts(open_patch_set(tmp_path)) == (1, 1, 1)


def test_segmunich(tmp_path: Path) -> None:
    patches = open_patch_set(miniatures.segmunich(tmp_path))
    assert counts(patches) == (2, 1, 0) and patches.shape == (10, 16, 16)
    assert patches.mask(0).ravel()[:13].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13]
    assert patches.labels["ignore"] == 13


def test_oscd(tmp_path: Path) -> None:
    patches = open_patch_set(miniatures.oscd(tmp_path))
    # 150 x 140 pixels: rows at 0 and 22, columns at 0 and 12.
    assert len(patches) == 12 and patches.index.columns["window"][3].tolist() == [22, 12, 128, 128]
    assert counts(patches)[2] == 4 and patches.index.columns["date"][0] == 20160120
    first, second = (patches.values(3, later=later) * 1e4 for later in (False, True))
    assert first[0, 0, 0] == pytest.approx(22 * 10 + 12 + 1000) and np.allclose(second - first, 1000, atol=0.01)
    assert patches.mask(0)[:25, :35].sum() == 600 and patches.mask(3).sum() == 0


def test_a_folder_with_a_table(tmp_path: Path) -> None:
    patches = open_patch_set(miniatures.tabled(tmp_path))
    assert counts(patches) == (2, 1, 1) and patches.label(2).tolist() == [2] and len(patches.labels["classes"]) == 3


def test_labels_out_of_range(tmp_path: Path) -> None:
    root = miniatures.segmunich(tmp_path / "a")
    miniatures.tif(root / "TUM_128" / "label" / "m_0.tif", np.full((16, 16), 77, dtype=np.uint8))
    with pytest.raises(BadInput, match=r"m_0\.tif holds the labels 77, which are out of range"):
        open_patch_set(root).mask(0)
    root = miniatures.tabled(tmp_path / "b")
    (root / "classes.csv").write_text("value,name\n0,a\n1,b\n")
    with pytest.raises(BadInput, match=r"row 3: the label '2' is out of range: expected 0 to 1"):
        open_patch_set(root)
    root = miniatures.pretraining(tmp_path / "c")
    (root / "classes.csv").write_text("value,name\n0,a\n1,b\n")
    (root / "labels.json").write_text('{"loc000": {"x": ["7"]}}')
    with pytest.raises(BadInput, match="loc000/x has the label 7, which is out of range"):
        open_patch_set(root)
    root = miniatures.downstream(tmp_path / "d", "cdl", [1], "float32")
    miniatures.tif(root / "cdl" / "00000.tif", np.full((6, 6), 1.5, dtype=np.float32))
    with pytest.raises(BadInput, match="fractions"):
        open_patch_set(root).mask(0)


def test_tables_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    root = miniatures.tabled(tmp_path / "a")
    (root / "metadata.csv").write_text("path,label\n../../etc/x.tif,0\n")
    with pytest.raises(BadInput, match="leads out of the folder"):
        open_patch_set(root)


def test_splits_of_another_set_and_unknown_folders(tmp_path: Path) -> None:
    root = miniatures.downstream(tmp_path / "set", "cdl", [1], "uint8")
    (root / "splits" / "val.txt").write_text("00000.tif\n")
    with pytest.raises(BadInput, match="also in the list of another part"):
        open_patch_set(root)
    for part in ("train", "val", "test"):
        (root / "splits" / f"{part}.txt").write_text(f"other_{part}.tif\n")
    with pytest.raises(BadInput, match="splits of another set"):
        open_patch_set(root)
    with pytest.raises(UnknownProduct, match="it holds some, name one of set"):
        open_patch_set(tmp_path)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    root = miniatures.downstream(tmp_path, "cdl", [1], "uint8")
    miniatures.tif(root / "cdl" / "00001.tif", np.ones((5, 6), dtype=np.uint8))
    with pytest.raises(BadInput, match="5 x 6 pixels, expected 6 x 6"):
        open_patch_set(root).mask(1)


def test_bad_arrays(tmp_path: Path) -> None:
    root = miniatures.hyperview(tmp_path)
    np.savez(root / "hyperview" / "1.npz", other=np.zeros(3))
    with pytest.raises(BrokenProduct, match=r"1\.npz holds no array 'data'"):
        open_patch_set(root)
    assert len(open_patch_set(root, broken="skip")) == 3
