"""Whole scenes: exact attention, groups of bands, weights that do not fit, checkpoints of others, the protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from affine import Affine

import torchspectral as ts
from torchspectral.errors import BadSettings, BadWeights, BandMismatch, MissingWeights, UnsafeInput
from torchspectral.geo import grid_of, place
from torchspectral.superresolution import chikusei_parts, consistency, degrade, mix_spectra, mixing_matrix, quality
from torchspectral.weights import WeightsCard, save


def _cube(bands: int = 4, rows: int = 22, cols: int = 26):
    rng = np.random.default_rng(1)
    values = np.clip(rng.uniform(0.2, 0.6, (bands, rows, cols)), 0, 1).astype(np.float32)
    cube = ts.make_cube(values, wavelength=np.linspace(450, 900, bands), quantity="reflectance")
    return place(cube, Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633")


def _weights(folder, bands: int = 4, scale: int = 2, **card):
    torch.manual_seed(0)
    constructor = {"bands": bands, "dim": 8, "scale": scale}
    network = ts.create_model("essaformer", **constructor).eval()
    known = {"name": "essaformer.test", "model": "essaformer", "constructor": constructor, "ratio": scale}
    path = save(folder / "w.safetensors", network.state_dict(), WeightsCard(**{**known, **card}))
    return path, network


def test_scene_attention_is_the_network_on_the_whole_scene(tmp_path) -> None:
    path, network = _weights(tmp_path)
    cube = _cube()
    result = ts.superres(cube, weights=path, settings={"gain": 1.0}, tile=8)
    with torch.no_grad():
        whole = network(torch.from_numpy(cube.values)[None])[0].numpy()
    np.testing.assert_allclose(result["cube"].values, whole, rtol=1e-4, atol=1e-5)
    assert "over all" in result.report.figures["attention"]
    assert grid_of(result["cube"]) == grid_of(cube).scaled(2)
    assert {"consistency_psnr", "consistency_sam"} <= set(result.report.figures)
    told = ts.superres(cube, scale=2, out=tmp_path / "fine.tif").report.figures["consistency_psnr"]
    known = yaml.safe_load((tmp_path / "fine.tif.run.yaml").read_text())["figures"]
    assert known["consistency_psnr"] == pytest.approx(told, abs=1e-3)
    tiles = ts.superres(cube, weights=path, settings={"gain": 1.0, "attention": "tile", "tile": 12, "overlap": 4})
    assert "each tile of 12" in tiles.report.figures["attention"]
    assert np.abs(tiles["cube"].values - whole).max() > 1e-4


def test_more_bands_in_groups(tmp_path) -> None:
    path, network = _weights(tmp_path)
    cube = _cube(9)
    with pytest.raises(BandMismatch, match="expect 4"):
        ts.superres(cube, weights=path)
    result = ts.superres(cube, weights=path, settings={"gain": 1.0, "band_groups": True, "group_overlap": 1}, tile=8)
    x = torch.from_numpy(cube.values)
    with torch.no_grad():
        parts = {s: network(x[None, s : s + 4])[0].numpy() for s in (0, 3, 5)}
    np.testing.assert_allclose(result["cube"].values[0], parts[0][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result["cube"].values[4], parts[3][1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result["cube"].values[5], (parts[3][2] + parts[5][0]) / 2, rtol=1e-4, atol=1e-5)
    assert result.report.figures["band_groups"] == 3 and "groups" in " ".join(result.report.notes)


def test_what_does_not_fit_is_refused(tmp_path) -> None:
    path, _ = _weights(tmp_path)
    with pytest.raises(BadSettings, match="enlarge 2 times and scale=4"):
        ts.superres(_cube(), scale=4, weights=path)
    with pytest.raises(BandMismatch, match="expect 4"):
        ts.superres(_cube(3), weights=path)
    with pytest.raises(MissingWeights, match="trained weights"):
        ts.superres(_cube(), method="spectral-mixup", state={})
    with pytest.raises(BadSettings, match="no weights"):
        ts.superres(_cube(), method="interpolation", weights=path)


def test_a_pickled_module_goes_through_convert(tmp_path) -> None:
    """The authors' checkpoint holds the module itself."""
    from torchspectral.weights import convert

    torch.manual_seed(0)
    network = ts.create_model("essaformer", bands=4, dim=8, scale=2).eval()
    torch.save({"epoch": 3, "model": network}, tmp_path / "theirs.pth")
    with pytest.raises(UnsafeInput, match="weights convert"):
        ts.superres(_cube(), method="essaformer", weights=tmp_path / "theirs.pth")
    made = convert(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    settings = {"gain": 1.0, "attention": "scene"}
    result = ts.superres(_cube(), method="essaformer", weights=getattr(made, "path", made), settings=settings)
    with torch.no_grad():
        whole = network(torch.from_numpy(_cube().values)[None])[0].numpy()
    np.testing.assert_allclose(result["cube"].values, whole, rtol=1e-4, atol=1e-5)


def test_weights_of_the_spectral_path_must_all_be_there() -> None:
    """The layers of the RGB task may be absent; nothing else may, nor may there be more."""
    torch.manual_seed(0)
    state = dict(ts.create_model("spectral-mixup", bands=8, n_feats=16, scale=2).state_dict())
    cube, settings = _cube(8), {"scale": 2, "gain": 1.0}

    def fine(given):
        return ts.superres(cube, method="spectral-mixup", state=given, settings=settings, check=False)["cube"].values

    spectral = {key: value for key, value in state.items() if "_RGB." not in key}
    assert len(spectral) < len(state)
    np.testing.assert_array_equal(fine(spectral), fine(state))
    with pytest.raises(BadWeights, match=r"1 absent \(trunk.head.bias"):
        fine({key: value for key, value in state.items() if key != "trunk.head.bias"})
    with pytest.raises(BadWeights, match=r"1 in excess \(trunk.tail.bias"):
        fine(state | {"trunk.tail.bias": torch.zeros(3)})
    with pytest.raises(BadWeights, match=r"final_RGB\.bias is"):
        fine(state | {"final_RGB.bias": torch.zeros(3)})


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos", "bilinear", "nearest"])
def test_interpolation_keeps_footprints(kernel) -> None:
    rows, cols = np.mgrid[:12, :10]
    ramp = ts.make_cube((rows + 2.0 * cols)[None].astype(np.float32))
    fine = ts.superres(ramp, scale=2, settings={"kernel": kernel})["cube"].values[0]
    blocks = fine.reshape(12, 2, 10, 2).mean((1, 3))
    np.testing.assert_allclose(blocks[4:-4, 4:-4], ramp.values[0, 4:-4, 4:-4], atol=0.02)


def test_all_components_are_all_bands() -> None:
    cube = _cube()
    plain = ts.superres(cube, scale=2)["cube"].values
    every = ts.superres(cube, scale=2, settings={"components": 4})
    np.testing.assert_allclose(every["cube"].values, plain, atol=1e-5)
    assert every.report.figures["variance_kept"] == pytest.approx(1)


def test_degrading_and_back() -> None:
    cube = _cube(3, 24, 32)
    low = degrade(cube, 4)
    assert low.shape == (3, 6, 8) and grid_of(low).scaled(4) == grid_of(cube)
    assert consistency(low, cube)["psnr"] > 60
    same = quality(torch.from_numpy(cube.values), torch.from_numpy(cube.values))
    assert same["SAM"] == pytest.approx(0, abs=1e-4) and same["MSSIM"] == pytest.approx(1)


def test_mixing_and_losing_resolution_commute() -> None:
    cube = _cube(6, 16, 16)
    matrix = mixing_matrix(6, np.random.default_rng(0))
    assert matrix.sum(0).mean() == pytest.approx(1)
    from torchspectral.ops.resize import imresize

    x = torch.from_numpy(cube.values)
    torch.testing.assert_close(
        imresize(mix_spectra(x, matrix), 0.25), mix_spectra(imresize(x, 0.25), matrix), atol=1e-5, rtol=1e-5
    )
    np.testing.assert_allclose(mix_spectra(cube.values, matrix), mix_spectra(x, matrix).numpy(), atol=1e-6)


def test_parts_of_chikusei() -> None:
    train, test = chikusei_parts(ts.make_cube(np.zeros((1, 2517, 2335), dtype=np.uint8)))
    assert train.shape == (1, 1792, 2048) and [t.shape for t in test] == [(1, 512, 512)] * 4


@pytest.mark.parametrize(
    ("scale", "size"), [(0.25, (13, 18)), (1 / 3, (9, 11)), (1 / 8, (16, 24)), (4.0, (3, 5)), (2.5, (6, 4))]
)
def test_resizing_is_matlabs_to_the_edge(scale, size) -> None:
    """``imresize`` as MATLAB defines it, row by row: cubic with a = -1/2, widened where it shrinks, ends mirrored."""
    from torchspectral.ops.resize import imresize

    def cubic(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    def matrix(length: int) -> np.ndarray:
        made, wide = np.zeros((int(np.ceil(length * scale)), length)), min(scale, 1.0)
        for i in range(len(made)):
            centre = (i + 1) / scale + 0.5 * (1 - 1 / scale)  # counted from 1
            for j in range(int(np.floor(centre - 2 / wide)), int(np.ceil(centre + 2 / wide)) + 1):
                k = (j - 1) % (2 * length)
                made[i, k if k < length else 2 * length - 1 - k] += wide * cubic(wide * (centre - j))
        return made / made.sum(1, keepdims=True)

    image = np.random.default_rng(0).random((2, *size))
    wanted = matrix(size[0]) @ image @ matrix(size[1]).T
    np.testing.assert_allclose(imresize(torch.from_numpy(image), scale).numpy(), wanted, atol=1e-12)


def test_nodata_touches_its_neighbours_alone() -> None:
    cube = _cube(rows=40, cols=36)
    whole = degrade(cube, 2).values
    cube.values[:, :5, :5] = np.nan
    low = degrade(cube, 2).values
    near = np.zeros(low.shape[1:], bool)
    near[:4, :4] = True
    assert np.isnan(low[:, :3, :3]).all()
    np.testing.assert_allclose(low[:, ~near], whole[:, ~near], atol=1e-6)
    result = ts.superres(cube, scale=2)
    assert result.report.figures["consistency_psnr"] > 20
