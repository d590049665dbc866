"""`--open KEY=VALUE`: options of readers on the command line, in run files, and through `--config`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

import torchspectral as ts
from torchspectral.cli.app import main
from torchspectral.cli.options import parse_opening
from torchspectral.errors import BadSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
import sentinel2_miniature as mini


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product whose bands come in three pixel sizes, under a name with spaces and umlauts."""
    folder = tmp_path_factory.mktemp("größe und ort")
    return mini.write_safe(folder, offsets=dict.fromkeys(range(13), -1000.0))[0]


def run(*words: object) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def test_info_quicklook_and_spectrum_take_them(safe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", safe, "--open", "resolution=20", "--json") == 0
    coarse = json.loads(capsys.readouterr().out)
    assert run("info", safe, "--json") == 0
    assert coarse["shape"][1:] == [n // 2 for n in json.loads(capsys.readouterr().out)["shape"][1:]]
    assert run("quicklook", safe, "-o", tmp_path / "a.png", "--open", "resolution=20") == 0
    assert run("spectrum", safe, "--pixel", "--at", "1", "1", "-o", tmp_path / "a.csv", "--open", "resolution=20") == 0
    assert len((tmp_path / "a.csv").read_text().strip().splitlines()) > 5


def test_convert_keeps_them_and_repeats_them(safe: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.tif", tmp_path / "b.tif"
    assert run("convert", safe, "-o", first, "--open", "resolution=20", "--mask", "clear") == 0
    known = yaml.safe_load((tmp_path / "a.tif.run.yaml").read_text())
    assert known["options"]["open"] == ["resolution=20"] and "cloud" in known["notes"][0]
    assert run("convert", safe, "--config", tmp_path / "a.tif.run.yaml", "-o", second) == 0
    assert ts.open(second).equals(ts.open(first))


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["resolution"], "expected KEY=VALUE"),
        (["a b=3"], "expected KEY=VALUE"),
        (["bands=3"], "--bands"),
        (["window=1"], "--bbox"),
        (["key=a", "key=b"], "twice"),
        (["key=[1"], "cannot read the value"),
    ],
)
def test_what_is_no_option_of_a_reader(pairs: list[str], says: str) -> None:
    with pytest.raises(BadSettings, match=says):
        parse_opening(pairs)


def test_the_reader_says_what_it_knows(safe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pair, says in (("overlap=average", "has no option 'overlap'"), ("resolution=7", "expected")):
        assert run("info", safe, "--open", pair) == 2
        assert says in capsys.readouterr().err
