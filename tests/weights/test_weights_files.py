"""Cards, files, store and loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral import weights
from torchspectral.errors import BadWeights, MissingWeights, OutputExists, ProductNotFound, UnknownName, UnsafeInput
from torchspectral.weights.files import strip_prefixes

CARD = weights.WeightsCard(
    name="toy-s.test", model="toy-s", constructor={"bands": 3}, wavelengths=[400.0, 500.0, 600.0], licence="CC0-1.0"
)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    monkeypatch.setenv("TORCHSPECTRAL_STORE", str(folder))
    return folder


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 3))


def test_round_trip_keeps_tensors_values_and_card(tmp_path: Path) -> None:
    state = {"w": torch.randn(3, 4).bfloat16(), "i": torch.arange(5), "a": np.eye(2), "rank": 4, "names": ["x", "y"]}
    path = weights.save(tmp_path / "a.safetensors", state, CARD)
    loaded = weights.load(path)
    assert torch.equal(loaded.state["w"], state["w"]) and torch.equal(loaded.state["i"], state["i"])
    assert (
        loaded.state["a"].dtype == torch.float64 and loaded.state["rank"] == 4 and loaded.state["names"] == ["x", "y"]
    )
    assert loaded.card.model_copy(update={"sha256": ""}) == CARD and len(loaded.card.sha256) == 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "a.yaml"]


def test_card_travels_inside_the_file(tmp_path: Path) -> None:
    path = weights.save(tmp_path / "a.safetensors", {"w": torch.ones(2)}, CARD)
    (tmp_path / "a.yaml").unlink()
    assert weights.load(path).card == CARD


@settings(max_examples=25, deadline=None)
@given(
    name=st.from_regex(r"[a-z][a-z0-9-]{0,8}\.[a-z0-9-]{1,8}", fullmatch=True).filter(lambda s: s[-1] != "."),
    gain=st.one_of(st.floats(0.1, 1e5), st.lists(st.floats(0.1, 10), min_size=1, max_size=4)),
    text=st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30),
)
def test_card_survives_yaml(name: str, gain: object, text: str) -> None:
    import yaml

    try:
        card = weights.WeightsCard(name=name, scale={"rule": "fixed", "gain": gain}, source=text, metrics={"sam": 1.5})
    except ValueError:
        return
    assert weights.make_card(yaml.safe_load(card.to_yaml()), where="here") == card


def test_every_key_and_shape_must_match(tmp_path: Path) -> None:
    path = weights.save(tmp_path / "a.safetensors", net().state_dict(), CARD)
    fresh = net()
    torch.nn.init.zeros_(fresh[0].weight)
    weights.load(path, model=fresh)
    assert torch.equal(fresh[0].weight, net()[0].weight)
    with pytest.raises(BadWeights, match=r"1 of another shape \(0.weight is \(4, 3, 1, 1\), expected \(4, 2, 1, 1\)"):
        weights.load(
            path, model=torch.nn.Sequential(torch.nn.Conv2d(2, 4, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 3))
        )
    with pytest.raises(BadWeights, match=r"1 absent \(extra\); 1 in excess \(0.bias\)"):
        weights.load(path, expect=["0.weight", "2.weight", "2.bias", "extra"])
    optional = CARD.model_copy(update={"optional_keys": ["extra", r"0\.bias"]})
    weights.load(path, expect=["0.weight", "2.weight", "2.bias", "extra"], card=optional)


@pytest.mark.parametrize("legacy", [False, True])
def test_wrappers_and_prefixes(tmp_path: Path, legacy: bool) -> None:
    state = {f"module.{k}": v for k, v in net().state_dict().items()}
    file = tmp_path / "run.pth"
    torch.save(
        {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        file,
        _use_new_zipfile_serialization=not legacy,
    )
    loaded = weights.load(file, model=net())
    assert list(loaded.state) == list(net().state_dict())


def test_prefix_stays_where_the_network_has_it() -> None:
    state = {"model.a": torch.ones(1), "model.b": torch.ones(1)}
    assert list(strip_prefixes(state, {"model.a": None, "model.b": None})) == ["model.a", "model.b"]
    assert list(strip_prefixes(state, {"a": None, "b": None})) == ["a", "b"]
    assert list(strip_prefixes(state)) == ["model.a", "model.b"]


def test_key_map(tmp_path: Path) -> None:
    path = weights.save(tmp_path / "a.safetensors", {"FEN.conv0.w": torch.ones(1), "FEN.conv1.w": torch.zeros(1)}, CARD)
    card = CARD.model_copy(update={"key_map": {r"^FEN\.": "body.", r"conv(\d)\.w$": r"layers.\1.weight"}})
    assert list(weights.load(path, card=card).state) == ["body.layers.0.weight", "body.layers.1.weight"]
    clash = CARD.model_copy(update={"key_map": {r"conv\d": "conv"}})
    with pytest.raises(BadWeights, match="gives two tensors the name"):
        weights.load(path, card=clash)


def test_checksum(tmp_path: Path) -> None:
    path = weights.save(tmp_path / "a.safetensors", {"w": torch.ones(64)}, CARD)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadWeights, match="checksum"):
        weights.load(path)
    assert weights.inspect(path)["checksum"] == "differs"


def test_store_and_names(tmp_path: Path, store: Path) -> None:
    assert weights.store_dir() == store
    path = weights.save(tmp_path / "a.safetensors", {"w": torch.ones(2)}, CARD)
    with pytest.raises(MissingWeights, match=r"torchspectral weights add toy-s.mine FILE"):
        weights.load("toy-s.mine")
    added = weights.add("toy-s.mine", path)
    assert added == store / "toy-s.mine.safetensors" and weights.find("toy-s.mine") == added
    assert weights.find("toy-s") == added
    assert weights.load("toy-s.mine").card.name == "toy-s.mine"
    assert [e.where for e in weights.listing() if e.name == "toy-s.mine"] == ["store"]
    with pytest.raises(OutputExists):
        weights.add("toy-s.mine", path)
    weights.add("toy-s.mine", path, overwrite=True)
    weights.add("toy-s.other", path)
    with pytest.raises(UnknownName, match="several"):
        weights.find("toy-s")


def test_missing_weights_name_source_licence_and_command(store: Path, tmp_path: Path) -> None:
    store.mkdir()
    card = CARD.model_copy(
        update={"name": "toy-s.far", "source": "repo a/b at 1234", "licence": "CC-BY-NC-4.0", "sha256": "0" * 64}
    )
    (store / "toy-s.far.yaml").write_text(card.to_yaml())
    with pytest.raises(MissingWeights) as caught:
        weights.load("toy-s.far")
    for part in ("repo a/b at 1234", "CC-BY-NC-4.0", "torchspectral weights add toy-s.far FILE"):
        assert part in str(caught.value)
    file = tmp_path / "x.pt"
    torch.save({"w": torch.ones(1)}, file)
    with pytest.raises(BadWeights, match="checksum"):
        weights.add("toy-s.far", file)


def test_zip_bomb_and_stride_bomb_are_refused(tmp_path: Path) -> None:
    import zipfile

    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 20_000_000)
    with pytest.raises(UnsafeInput, match="unpack"):
        weights.load(bomb)
    torch.save({"w": torch.ones(1).expand(10**9)}, tmp_path / "stride.pt")
    with pytest.raises(UnsafeInput, match="claim"):
        weights.load(tmp_path / "stride.pt")


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProductNotFound):
        weights.load(tmp_path / "no.safetensors")
    with pytest.raises(BadWeights, match="run has no finished weights"):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.yaml").write_text("{}")
        weights.find(tmp_path / "run")


PUBLISHED = [
    "pansharpening-toolbox/DHPDarn_PRISMA.tar", "pansharpening-toolbox/DIPHyperKite_PRISMA.tar",
    "pansharpening-toolbox/HSpeNet_PRISMA.tar", "pansharpening-toolbox/HyperDSNet_PRISMA.tar",
    "pansharpening-toolbox/HyperPNN_PRISMA.tar", "pansharpening-toolbox/R_PNN_PRISMA.tar", "r-pnn/R-PNN_PRISMA.tar",
    "z-pnn/GE1_Z-PNN_model.tar", "z-pnn/GE1_Z-PanNet_model.tar", "z-pnn/WV2_Z-PNN_model.tar",
    "z-pnn/WV3_A-PNN-TA-FR_model.tar", "z-pnn/WV3_Z-PNN_model.tar", "z-pnn/WV3_Z-PanNet_model.tar",
]  # fmt: skip
PARAMETERS = {"HyperPNN_PRISMA": 140_255, "HSpeNet_PRISMA": 123_199, "R-PNN_PRISMA": 43_473, "DHPDarn_PRISMA": 481_971}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_load_and_convert_alike(samples: Path, tmp_path: Path, name: str) -> None:
    file = samples / "weights" / name
    if not file.is_file():
        pytest.skip(f"{name} is not among the samples")
    facts = weights.inspect(file)
    loaded = weights.load(file)
    if file.stem in PARAMETERS:
        assert facts["parameters"] == PARAMETERS[file.stem]
    assert facts["checksum"] == "not on the card" and facts["keys"][0]["dtype"] == "float32"
    out = weights.convert(file, tmp_path / "out.safetensors", card={"name": "x.y", "licence": "research only"})
    again = weights.load(out)
    assert list(again.state) and set(again.state) == set(loaded.state)
    assert all(torch.equal(again.state[k], v) for k, v in loaded.state.items())
    added = weights.add("prisma-net.published", file)
    assert added.suffix == ".tar" and weights.load("prisma-net.published").card.sha256 == facts["sha256"]
