"""Spectra of spectrometers and public libraries: files written from their descriptions, and real ones."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.errors import BadInput, BrokenProduct, MissingMetadata, ProductNotFound
from torchspectral.io.libraries import read_library, read_samples


def asd(target: np.ndarray, white: np.ndarray, *, kind: int = 1, form: int = 2, note: bytes = b"panel") -> bytes:
    """An ASD file of version 7, from the description of its layout."""
    code = {0: "f", 1: "i", 2: "d"}[form]
    head = bytearray(484)
    head[0:3] = b"as7"
    head[186], head[199] = kind, form
    head[191:199] = struct.pack("<ff", 350.0, 1.0)
    head[204:206] = struct.pack("<H", target.size)
    numbers = [struct.pack(f"<{v.size}{code}", *v.tolist()) for v in (target, white)]
    return bytes(head) + numbers[0] + struct.pack("<hqqh", -1, 0, 0, len(note)) + note + numbers[1]


@pytest.mark.parametrize("form", [0, 1, 2])
def test_asd_reflectance_is_target_over_white(tmp_path, form) -> None:
    target, white = np.arange(1, 6) * 100, np.full(5, 1000)
    (tmp_path / "a.asd").write_bytes(asd(target, white, form=form))
    spectra = read_library(tmp_path / "a.asd")
    np.testing.assert_allclose(spectra.values, [[0.1, 0.2, 0.3, 0.4, 0.5]], rtol=1e-6)
    assert spectra["wavelength"].values.tolist() == [350, 351, 352, 353, 354]
    assert spectra.attrs["quantity"] == "reflectance" and spectra["spectrum"].values.tolist() == ["a"]
    (tmp_path / "raw.000").write_bytes(asd(target, white, kind=0, form=form))
    raw = ts.open(tmp_path / "raw.000")
    assert raw.attrs["quantity"] == "dn" and raw.values[0, 4] == 500


def test_asd_white_of_zero_is_missing_and_damage_is_told(tmp_path) -> None:
    whole = asd(np.ones(5), np.array([0, 1, 2, 4, 5.0]))
    (tmp_path / "a.asd").write_bytes(whole)
    assert np.isnan(read_library(tmp_path / "a.asd").values[0, 0])
    for cut in (484, 500, len(whole) - 8):
        (tmp_path / "b.asd").write_bytes(whole[:cut])
        with pytest.raises(BrokenProduct):
            read_library(tmp_path / "b.asd")
    bad = bytearray(whole)
    bad[204:206] = b"\xff\xff"
    (tmp_path / "b.asd").write_bytes(bad)
    with pytest.raises(BrokenProduct, match="65535 channels"):
        read_library(tmp_path / "b.asd")


def test_real_asd(samples) -> None:
    spectra = read_library(samples / "speclib/ribb00001.asd")
    data = (samples / "speclib/ribb00001.asd").read_bytes()
    target = np.frombuffer(data, "<f8", 2151, 484)
    white = np.frombuffer(data, "<f8", 2151, 484 + 2151 * 8 + 20)
    assert spectra.shape == (1, 2151) and spectra["wavelength"].values[[0, -1]].tolist() == [350, 2500]
    np.testing.assert_allclose(spectra.values[0], (target / white).astype(np.float32), rtol=1e-6)


SVC = """/*** Spectra Vista SIG Data ***/
name= C:\\data\\leaf.0001.sig
units= Radiance, Radiance
data=
338.5  100.0  10.0  10.00
340.0  200.0  30.0  15.00
341.4  300.0  60.0  20.00
"""
ECOSTRESS = """Name: Quartz SiO2
Type: Mineral
X Units: Wavelength (micrometers)
Y Units: Reflectance (percent)
First X Value: 2.5
Number of X Values: 3

2.5  30.0
1.5  20.0
0.4  10.0
"""


def test_field_texts(tmp_path) -> None:
    (tmp_path / "leaf.sig").write_text(SVC)
    svc = read_library(tmp_path / "leaf.sig")
    np.testing.assert_allclose(svc.values, [[0.1, 0.15, 0.2]], rtol=1e-6)
    assert svc["wavelength"].values.tolist() == [338.5, 340.0, 341.4]
    (tmp_path / "quartz.spectrum.txt").write_text(ECOSTRESS)
    eco = read_library(tmp_path / "quartz.spectrum.txt")
    np.testing.assert_allclose(eco["wavelength"].values, [400, 1500, 2500])
    np.testing.assert_allclose(eco.values, [[0.1, 0.2, 0.3]], rtol=1e-6)
    assert eco["spectrum"].item() == "Quartz SiO2" and "values were in per cent" in eco.attrs["history"]
    (tmp_path / "splib06_a.txt").write_text(
        "USGS Digital Spectral Library splib06a\n 0.4 0.5 0.01\n 0.5 -1.23e34 0.0\n"
    )
    old = read_library(tmp_path / "splib06_a.txt")
    assert old["wavelength"].values.tolist() == [400, 500] and np.isnan(old.values[0, 1])


def test_usgs_splib07_needs_its_wavelengths(tmp_path) -> None:
    folder = tmp_path / "minerals"
    folder.mkdir()
    (folder / "splib07a_Alunite.txt").write_text(" splib07a Record=22: Alunite GDS84\n 0.1\n-1.23e+034\n 0.3\n")
    with pytest.raises(MissingMetadata, match="3 channels and no wavelengths"):
        read_library(folder / "splib07a_Alunite.txt")
    (tmp_path / "splib07a_Wavelengths_A.txt").write_text(" splib07a Record=1: Wavelengths A\n 0.4\n 0.5\n")
    (tmp_path / "splib07a_Wavelengths_B.txt").write_text(" splib07a Record=2: Wavelengths B\n 0.4\n 0.5\n 0.6\n")
    spectra = read_library(folder / "splib07a_Alunite.txt")
    np.testing.assert_allclose(spectra["wavelength"].values, [400, 500, 600])
    assert spectra["spectrum"].item() == "Alunite GDS84" and np.isnan(spectra.values[0, 1])


def test_folder_of_spectra(tmp_path) -> None:
    for n in range(3):
        (tmp_path / f"s{n}.asd").write_bytes(asd(np.full(4, n + 1.0), np.full(4, 10.0)))
    (tmp_path / "notes.md").write_text("no spectrum")
    spectra = read_library(tmp_path)
    assert spectra["spectrum"].values.tolist() == ["s0", "s1", "s2"]
    np.testing.assert_allclose(spectra.values[:, 0], [0.1, 0.2, 0.3], rtol=1e-6)
    (tmp_path / "t.asd").write_bytes(asd(np.ones(5), np.ones(5)))
    with pytest.raises(BadInput, match=r"t\.asd has 5 bands .* and s0\.asd has 4 bands"):
        read_library(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProductNotFound, match="holds no spectra"):
        read_library(tmp_path / "empty")


def test_real_plain_columns(samples) -> None:
    lawn = read_library(samples / "aviris/pixels/BeckmanLawn.txt")
    assert lawn.sizes["band"] == 2151 and lawn["wavelength"].values[0] == 350
    assert lawn.attrs["quantity"] == "reflectance" and lawn.values[0, 0] == np.float32(0.0150578)
    radiance = read_library(next((samples / "aviris/pixels").glob("ang*.txt")))
    assert radiance.sizes["band"] == 425 and radiance["wavelength"].values[0] == pytest.approx(376.859985)
    assert radiance.attrs["quantity"] == "dn"


def test_samples_with_what_is_told(samples) -> None:
    spectra, table = read_samples(samples / "traits/ely_plsr_data.csv")
    assert spectra.shape == (178, 1901) and len(table) == 178
    assert {"LMA_g_m2", "Common_Name"} <= set(table.columns) and table["LMA_g_m2"].dtype.kind == "f"
    spectra, table = read_samples(samples / "traits/soilmoisture_dataset.csv")
    assert spectra.shape == (679, 125) and table["soil_moisture"].iloc[0] == 33.51
    spectra, table = read_samples(samples / "speclib/library_berlin.sli")
    assert spectra.sizes["spectrum"] == len(table) == 75 and table["level_1"].iloc[0] == "impervious"
    assert table.index[0] == "red clay tile 1"
