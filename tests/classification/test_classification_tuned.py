"""Backbones tuned on labels: from `train classify` to the map."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine
from scipy.ndimage import gaussian_filter

import torchspectral as ts
from torchspectral.backbones.less_vit.statistics import PREFIX, SensorStatistics
from torchspectral.classification.labels import with_labels
from torchspectral.classification.training import BackboneTraining
from torchspectral.classification.tuned import evaluation, studies
from torchspectral.classification.tuned.data import TuningData
from torchspectral.classification.tuned.held_out import seen_in
from torchspectral.classification.tuned.learning import head_of
from torchspectral.classification.tuned.lora import called_layers, merge_lora
from torchspectral.classification.tuned.network import BackboneClassifier
from torchspectral.classification.tuned.tiling import tiling_of
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BadWeights,
    BandMismatch,
    MissingWeights,
)
from torchspectral.geo import place
from torchspectral.learn.heads.neighbours import NeighbourHead
from torchspectral.learn.heads.upernet import UPerNetHead
from torchspectral.learn.scenes import open_scenes
from torchspectral.learn.splits import balanced
from torchspectral.weights import Weights
from torchspectral.weights.card import WeightsCard

pytest.importorskip("lightning")
BANDS = 80
SMALL = {"dim": 48, "depth": 2, "heads": 3}
RANDOM = {
    "backbone": "spec-vit-t", "initial": "random", "arguments": SMALL, "steps": 60, "patch": 32, "validate_every": 60,
}  # fmt: skip
CLASSES = {"class_names": ["a", "b", "c"], "class_numbers": [1, 2, 5], "class_colors": [[9, 9, 9]] * 3}


def scene(rows: int = 96, cols: int = 96, seed: int = 0):
    """Three land covers in patches, with gains and noise; the truth from 1."""
    rng = np.random.default_rng(seed)
    wave = np.linspace(420, 2400, BANDS)
    pure = np.stack([0.3 + 0.2 * np.sin(wave / (200 + 120 * k) + k) for k in range(3)])
    truth = np.stack([gaussian_filter(rng.normal(size=(rows, cols)), 6) for _ in range(3)]).argmax(0)
    values = pure[truth].transpose(2, 0, 1) * rng.uniform(0.8, 1.2, (rows, cols))
    values += rng.normal(0, 0.01, values.shape)
    cube = ts.make_cube(values.astype(np.float32), wavelength=wave, fwhm=np.full(BANDS, 25.0), quantity="reflectance")
    return place(cube, Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633"), truth + 1


def sparse(truth: np.ndarray, share: float = 0.1, names=("none", "corn", "hay", "oats")):
    kept = np.where(np.random.default_rng(5).random(truth.shape) < share, truth, 0)
    return (("y", "x"), kept.astype(np.int16), {"class_names": list(names)})


def labelled(**more):
    cube, truth = scene(**more)
    return xr.Dataset({"cube": cube, "labels": sparse(truth)}), truth


def tune(out, data=None, **settings):
    steps = {k: settings.pop(k) for k in ("seed",) if k in settings}
    data = labelled()[0] if data is None else data
    return ts.train("classify", "backbone", data, out=out, device="cpu", settings=RANDOM | settings, **steps)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return tune(folder), folder


def test_a_frozen_random_encoder_with_a_head_tells_three_classes(run, tmp_path) -> None:
    _, folder = run
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["held_out_ground"]["oa_training"] > 0.9
    assert figures["held_out_ground"]["oa"] > 0.9 and figures["held_out_ground"]["kappa"] > 0.8
    assert figures["split"].startswith("0%") and set(figures["held_out_ground"]) >= {"iou_micro", "iou_macro", "ece"}
    assert (folder / "confusion.csv").read_text().startswith("true \\ predicted,corn,hay,oats,total,recall")
    assert (folder / "confusion.png").is_file() and (folder / "classes.csv").is_file()
    other, truth = scene(80, 70, seed=3)
    other[:, 5:9] = np.nan
    found = ts.classify(other, weights=folder, out=f"{tmp_path}/map/")
    classes = found["classes"].values[0]
    seen = classes != 255
    assert (classes == truth)[seen].mean() > 0.88 and (~seen).sum() == 4 * 70
    assert found["classes"].attrs["class_names"] == ["unclassified", "corn", "hay", "oats"]
    p = found["probabilities"].values
    assert (p.argmax(0) + 1 == classes)[seen].all() and np.allclose(p.sum(0)[seen], 1, atol=1e-5)
    table = found["areas"].set_index("name")
    assert table.loc["corn", "hectares"] == pytest.approx(table.loc["corn", "pixels"] * 0.09)
    assert {f.name for f in (tmp_path / "map").iterdir()} >= {"classes.tif", "areas.csv", "classes.png", "entropy.tif"}
    assert any("overlap by 16" in note for note in found.report.notes)


def test_a_tuned_encoder_embeds_and_its_vectors_are_diagnosed(run, tmp_path) -> None:
    network, folder = run[0]["network"].eval(), run[1]
    cube, truth = scene(64, 64, seed=5)
    vectors = ts.embed(cube, weights=folder, settings={"stride": 32}, out=tmp_path / "emb.tif")
    assert any("without their head" in note for note in vectors.report.notes)
    with torch.no_grad():
        own = network.encode(torch.from_numpy(cube.values[None, :, :32, 32:64].copy()))[-1][0].numpy()
    np.testing.assert_allclose(ts.open(tmp_path / "emb.tif").values[:, :8, 8:16], own, atol=1e-5)
    marks = ts.make_layers(truth[None, 2::4, 2::4].astype(np.uint8), ["labels"])
    marks = place(marks, Affine(120, 0, 600000, 0, -120, 5000000), "EPSG:32633")
    found = ts.diagnose(tmp_path / "emb.tif", labels=marks, out=tmp_path / "report")
    assert found["numbers"]["classes"] == 3 and found["numbers"]["knn_overall"] > 0.8 and not found["alarms"]
    assert found["numbers"]["dsmi_labels"] > abs(found["numbers"]["dsmi_shuffled"])


def test_pixels_of_training_patches_are_told_apart() -> None:
    others = np.array([[0, 0, 0, 4, 4], [0, 6, 6, 4, 4], [1, 2, 2, 4, 4]])
    seen = seen_in(np.array([0, 2, 2, 6, 6]), others)[0]
    expected = np.zeros((6, 6), dtype=bool)
    expected[:2, :2] = expected[4:, 4:] = True
    np.testing.assert_array_equal(seen, expected)
    assert not seen_in(np.array([2, 0, 0, 4, 4]), others).any()


def test_held_out_ground_is_seen_as_scenes_are(run) -> None:
    cube, _ = scene(50, 41, seed=4)
    cube[:, 3:5, 7] = np.nan
    found = ts.classify(cube, weights=run[1])["probabilities"].values
    network = run[0]["network"].eval()
    image, seen = torch.from_numpy(np.nan_to_num(cube.values)), ~np.isnan(found[0])
    with torch.no_grad():
        again = evaluation.predict_image(network, image, torch.from_numpy(seen[None].astype(np.float32))).numpy()
    np.testing.assert_allclose(again[:, seen], found[:, seen], atol=1e-5)


def test_what_lies_under_nodata_changes_nothing(run) -> None:
    """Stored values of a hole are not seen; what a transformer sees of it is the mean of each band."""
    cube, _ = scene(40, 40, seed=4)
    network = ts.create_model("backbone-classifier", **ts.weights.load(run[1]).card.constructor)
    network.load_state_dict(ts.weights.load(run[1]).state)
    network.eval()
    valid = torch.ones(1, 1, 32, 32)
    valid[..., 10:12, :] = 0
    x = torch.from_numpy(cube.values[None, :, :32, :32].copy())
    with torch.no_grad():
        one = network(x, valid)
        x[..., 10:12, :] = -32768
        other = network(x, valid)
        x[..., 10:12, :] = torch.nan
        third = network(x)
        whole = network.encode(x.nan_to_num(0.3), torch.ones_like(valid))[0]
        holed = network.backbone.vit_core.patch_embed(network.backbone.spectral_adapter(network.standardised(x, valid)))
        full = network.backbone.vit_core.patch_embed(
            network.backbone.spectral_adapter(network.standardised(x.nan_to_num(0.3)))
        )
    assert torch.equal(one, other) and torch.equal(one, third) and whole.isfinite().all()
    moved = (holed - full).abs().amax(-1).reshape(8, 8) > 1e-5
    assert moved[2:3].any() and not moved[:2].any() and not moved[3:].any()


@pytest.mark.parametrize(
    ("settings", "figure"),
    [
        ({"tuning": "knn", "steps": 1, "split": "random"}, "oa_disjoint"),
        ({"tuning": "lora", "steps": 6, "rank": 2}, "oa"),
        pytest.param({"tuning": "adapter", "steps": 4, "class_weights": "none"}, "oa", marks=pytest.mark.slow),
        pytest.param(
            {"tuning": "frozen", "unfrozen": 1, "head": "upernet", "width": 16, "steps": 3},
            "oa",
            marks=pytest.mark.slow,
        ),
        ({"task": "scenes", "steps": 10}, "oa"),
        pytest.param({"task": "multilabel", "steps": 10, "split": "random"}, "map_macro", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_way_of_tuning_runs_to_a_map(tmp_path, settings: dict, figure: str) -> None:
    data, _ = labelled(rows=64, cols=48)
    result = tune(tmp_path / "r", data, patch=16, validate_every=10, **settings)
    assert figure in result.report.figures["held_out_ground"]
    card = ts.weights.load(tmp_path / "r").card
    assert card.constructor.get("lora") is None and not any("lora" in k for k in ts.weights.load(tmp_path / "r").state)
    found = ts.classify(data["cube"][:, :20, :24], weights=tmp_path / "r")
    assert np.isfinite(found["probabilities"].values).all()
    if settings.get("split") == "random":
        assert "too good" in result.report.notes[0]
    if "task" in settings:
        assert any("one answer for each tile" in note for note in found.report.notes)


@pytest.mark.slow
def test_change_between_two_dates(tmp_path) -> None:
    cube, _ = scene(64, 64)
    changed = np.ones((64, 64), dtype=int)
    changed[16:48, 8:40] = changed[:12, 44:] = 2
    later = cube.copy(data=cube.values * np.where(changed == 2, 0.4, 1.0).astype(np.float32))
    data = xr.Dataset(
        {
            "cube": cube,
            "later": (("band", "y", "x"), later.values),
            "labels": sparse(changed, 0.3, ["", "same", "other"]),
        }
    )
    tune(tmp_path / "r", data, task="change", tuning="frozen", head="linear", steps=60)
    found = ts.classify(cube, weights=tmp_path / "r", later=later)
    assert (found["classes"].values[0] == changed).mean() > 0.75
    with pytest.raises(BadInput, match="give the later scene"):
        ts.classify(cube, weights=tmp_path / "r")


@pytest.mark.slow
def test_resuming_gives_the_same_weights(tmp_path) -> None:
    data, _ = labelled(rows=64, cols=64)
    whole = tune(tmp_path / "a", data, steps=8, decay="constant", patch=16)
    tune(tmp_path / "b", data, steps=4, decay="constant", patch=16)
    more = ts.train("classify", "backbone", data, out=tmp_path / "b", device="cpu", steps=8, resume=True)
    a, b = (r["network"].state_dict() for r in (whole, more))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_patch_sets_bring_their_own_labels(tmp_path) -> None:
    from torchspectral.learn.patch_sets import simulate_patches

    simulate_patches(tmp_path / "set", 18, settings={"labels": "single", "size": 16})
    result = tune(tmp_path / "r", tmp_path / "set", task="scenes", patch=16, steps=4)
    assert "oa" in result.report.figures["held_out_ground"] and "published split" in result.report.notes[0]
    card = ts.weights.load(tmp_path / "r").card
    assert len(card.constructor["class_names"]) == len(card.constructor["class_numbers"]) > 1
    with pytest.raises(BadInput, match="expected pixels"):
        tune(tmp_path / "p", tmp_path / "set", patch=16)
    with pytest.raises(BadSettings, match="leave them out"):
        tune(tmp_path / "p", tmp_path / "set", patch=16, labels=["x.tif"], task="scenes")


def test_convolutions_are_exact_in_tiles(monkeypatch) -> None:
    torch.manual_seed(0)
    network = BackboneClassifier("spec-resnet50", bands=75, patch=32, **CLASSES).eval()
    torch.nn.init.normal_(network.head.linear.weight, std=0.1)
    plan = tiling_of(network)
    assert plan["scope"] == "local" and plan["multiple"] == 16 and plan["reach"] >= 103
    state = {**network.state_dict(), "constructor": {"backbone": "spec-resnet50", "bands": 75, "patch": 32, **CLASSES}}
    state["class_names"] = CLASSES["class_names"]
    values = np.random.default_rng(0).random((75, 16, 272)).astype(np.float32)
    cube = ts.make_cube(values, wavelength=np.linspace(420, 2400, 75), quantity="reflectance")
    from torchspectral.registry import create

    whole, tiled = (
        ts.run(create("classification", "backbone", plan), {"cube": cube}, state=state, options={"tile": t})
        for t in ((16, 272), (16, 128))
    )
    np.testing.assert_allclose(whole["probabilities"].values, tiled["probabilities"].values, atol=2e-5)
    # Held-out ground is evaluated tile by tile, with as much around each tile as the network sees.
    monkeypatch.setattr(evaluation, "CORE", 128)
    image, valid, widths = torch.from_numpy(values), torch.ones(1, 16, 272), []

    def read(window):
        widths.append(window.width)
        return {"image": image[(..., *window.slices)], "valid": valid[(..., *window.slices)]}

    with torch.no_grad():
        parts = [found.numpy() for _, found in evaluation.predictions(network, (16, 272), read)]
    np.testing.assert_allclose(np.concatenate(parts, 2), whole["probabilities"].values, atol=2e-5)
    assert widths == [256, 272, 144]


def test_weights_of_several_sensors_give_the_statistics_of_the_scenes() -> None:
    state = SensorStatistics([((500, 600), (1, 2), (3, 4), 10.0), ((500, 600, 700), (5, 6, 7), (8, 9, 10), 20.0)])
    card = WeightsCard(name="two", model="less-vit-s", wavelengths="any")
    kept = {f"{PREFIX}.{key}": value for key, value in state.state_dict().items()}
    data = TuningData(BackboneTraining.make({"backbone": "less-vit-s", "initial": "two"}))
    data.start, data.wavelength = Weights(kept, card, Path()), np.array([500.2, 600.0, 700.0])

    def found(rule: str) -> tuple:
        recipe = SimpleNamespace(data=data, settings=SimpleNamespace(statistics=rule))
        return studies._statistics(recipe, np.zeros(data.wavelength.size), np.ones(data.wavelength.size))

    for rule in ("auto", "weights"):
        mean, std, how = found(rule)
        assert mean.tolist() == [5, 6, 7] and std.tolist() == [8, 9, 10] and "this sensor" in how
    assert found("train")[0].tolist() == [0, 0, 0]
    cube = ts.make_cube(np.zeros((3, 4, 4)), wavelength=data.wavelength)
    data.backbone = "less-vit-s"
    assert data._arguments_for(cube)["resolution"] == 20.0
    data.wavelength = np.array([500.0, 650.0])
    assert found("auto")[0].tolist() == [0, 0]
    with pytest.raises(
        BandMismatch, match=r"got 2 bands of 500-650 nm, expected 2 bands .* or 3 bands .*statistics=train"
    ):
        found("weights")
    del kept[f"{PREFIX}.1.std"]
    with pytest.raises(BadWeights, match="sensor 1 without its std"):
        found("auto")


def test_low_rank_updates_merge_and_must_have_an_effect() -> None:
    torch.manual_seed(0)
    arguments = {"embed_dim": 24, "depth": 1, "num_heads": 2, "image_size": 32, "bands": 6}
    network = BackboneClassifier("spectralgpt-b", bands=6, patch=32, arguments=arguments, **CLASSES)
    assert "blocks.0.attn.proj" in called_layers(network) and "blocks.0.attn.q" not in called_layers(network)
    with pytest.raises(BadSettings, match="no effect"):
        BackboneClassifier("spectralgpt-b", bands=6, patch=32, arguments=arguments, lora={"targets": ["q"]}, **CLASSES)
    tuned = BackboneClassifier("spectralgpt-b", bands=6, patch=32, arguments=arguments, lora={"rank": 2}, **CLASSES)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    x = torch.rand(1, 6, 32, 32)
    with torch.no_grad():
        before = tuned.eval()(x)
        merge_lora(tuned)
        assert torch.allclose(before, tuned(x), atol=1e-5)
    network.load_state_dict(tuned.state_dict())


@pytest.mark.parametrize(
    ("backbone", "arguments", "head"),
    [
        ("spec-vit-t", {"patch_size": 4}, "conv"),
        ("spec-vit-t", {"patch_size": 1}, "fcn"),
        ("enmap-vit-t", {"patch_size": 1}, "fcn"),
        ("spec-resnet50", {"band_list": "enmap-202"}, "fcn"),
    ],
)
def test_a_head_that_suits_the_backbone(backbone: str, arguments: dict, head: str) -> None:
    settings = BackboneTraining.make({"backbone": backbone, "tuning": "lora"})
    data = SimpleNamespace(backbone=backbone, arguments=arguments)
    assert head_of(settings, data) == head


def test_heads() -> None:
    head = UPerNetHead((8, 16, 24), 5, width=12).train()
    maps = [torch.rand(2, c, s, s, requires_grad=True) for c, s in ((8, 16), (16, 8), (24, 4))]
    out = head(maps, (32, 32))
    assert out.shape == (2, 5, 32, 32)
    out.sum().backward()
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)
    with pytest.raises(BadInput, match="expected 3"):
        head(maps[:2])
    votes = NeighbourHead(2, 3, size=10, k=3, temperature=0.07)
    with pytest.raises(BadInput, match="empty"):
        votes(torch.rand(1, 2))
    votes.fill(torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1.0]]), torch.tensor([0, 1, 2, 1]))
    assert votes(torch.tensor([[1.0, 0.1], [-1, 0.2]])).argmax(1).tolist() == [0, 2]
    copy = NeighbourHead(2, 3, size=10)
    copy.load_state_dict(votes.state_dict())


def test_blocks_are_dealt_out_by_class() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (16, 4)) * (rng.random((16, 4)) < 0.5)
    counts[:, 3] = 0
    counts[[2, 9], 3] = 5  # a class in two blocks
    for seed in range(5):
        held = balanced(counts, 0.25, seed=seed)
        share = counts[sorted(held)].sum(0) / counts.sum(0)
        assert (share > 0).all() and (share < 1).all() and share[:3].mean() == pytest.approx(0.25, abs=0.15)
    alone = np.eye(4, dtype=int)
    assert len(balanced(alone, 0.25)) == 1


def test_labels_are_brought_together(tmp_path) -> None:
    import geopandas
    from shapely.geometry import box

    cube, truth = scene(32, 32)
    shapes = geopandas.GeoDataFrame(
        {"crop": ["hay", "corn"]}, geometry=[box(600000, 4999700, 600300, 5000000), box(600300, 4999400, 600600, 4999700)],
        crs="EPSG:32633",
    )  # fmt: skip
    shapes.to_crs(4326).to_file(tmp_path / "fields.gpkg")
    scenes = open_scenes(cube)
    made, classes, notes = with_labels(scenes, [str(tmp_path / "fields.gpkg")])
    assert classes.names == ("corn", "hay") and made[0].fingerprint != scenes[0].fingerprint
    assert int((made[0].scene["labels"].values == 2).sum()) == pytest.approx(100, abs=12)
    assert any("polygons of fields.gpkg" in line and "EPSG:4326" in line for line in notes)
    two = [
        xr.Dataset({"cube": cube, "labels": sparse(truth, names=n)}) for n in (["", "x", "y", "z"], ["", "z", "y", "x"])
    ]
    both, classes, notes = with_labels(open_scenes(two), [])
    assert classes.names == ("x", "y", "z") and "by name" in notes[-1]
    assert (both[0].scene["labels"].values == 1).sum() == (both[1].scene["labels"].values == 3).sum()


def test_one_clear_error_each(run, tmp_path) -> None:
    data, _ = labelled(rows=64, cols=64)
    out = tmp_path / "r"
    with pytest.raises(BadInput, match="comes without labels"):
        tune(out, data["cube"])
    with pytest.raises(BadInput, match="dims \\(y, x\\)"):
        with_labels(open_scenes(data), [], "")
        tune(out, xr.Dataset({"cube": data["cube"], "labels": (("v", "w"), np.ones((9, 9), int))}))
    with pytest.raises(MissingWeights, match="initial=random"):
        tune(out, data, initial="")
    with pytest.raises(BadSettings, match="choose tuning=frozen"):
        tune(out, data, head="upernet")
    assert not out.exists()
    folder = run[1]
    with pytest.raises(BadWeights, match="expected weights of spec-vit-t"):
        tune(out, data, initial=str(folder))
    encoder = ts.create_model("spec-vit-t", dim=24, depth=1, heads=2, image_size=32)
    file = ts.weights.save(
        tmp_path / "e.safetensors",
        encoder.state_dict(),
        ts.weights.WeightsCard(name="spec-vit-t.e", model="spec-vit-t"),
    )
    with pytest.raises(BadWeights, match="another model"):
        tune(out, data, initial=str(file))
    with pytest.raises(BadWeights, match="expected those of a classification"):
        ts.classify(data["cube"], weights=file)
    with pytest.raises(MissingWeights, match="tune a backbone"):
        ts.classify(data["cube"], method="backbone")
    assert merge_lora
