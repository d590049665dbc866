"""What README and docs show exists: links, commands with their options, methods and settings, names in Python."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import torchspectral as ts
from torchspectral import registry, sensors
from torchspectral.cli.app import build
from torchspectral.cli.options import repeat_pairs
from torchspectral.errors import UnknownName

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
SECTIONS = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HELP = {"-h", "--help"}


def text_of(page: Path) -> str:
    """Markdown of a page, or of a notebook's text."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Links


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    prose = SECTIONS.sub("", text_of(page))
    targets = [t.partition("#")[0] for t in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose) if "://" not in t]
    missing = [t for t in targets if t and not (page.parent / t).exists()]
    assert not missing, f"{name_of(page)} links to {', '.join(missing)}, which is not there"


# Commands


@lru_cache(maxsize=1)
def command_line() -> Any:
    """The command, without what reads files while it parses (`--config`)."""
    from typer.main import get_command

    top = get_command(build())
    for _, command in verbs(top):
        for param in command.params:
            param.callback = None
    return top


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that can be run."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from verbs(inner, (*path, name))


def listed(text: str) -> Iterator[list[str]]:
    """Words of each line `torchspectral ...` in a listing."""
    for language, body in SECTIONS.findall(text):
        if language in ("", "sh", "bash", "console"):
            for line in body.replace("\\\n", " ").splitlines():
                if line.startswith("torchspectral "):
                    yield shlex.split(line, comments=True)[1:]


def mentioned(text: str) -> Iterator[list[str]]:
    """Words of each `torchspectral ...` in a sentence, where values may be left out or stand for something."""
    for span in re.findall(r"`(torchspectral [^`]+)`", SECTIONS.sub("", text)):
        yield shlex.split(" ".join(span.split()))[1:]


def command_of(words: list[str]) -> tuple[Any, str, list[str]]:
    """The command, its name, and the words after it."""
    command, path, rest = command_line(), [], list(words)
    while hasattr(command, "commands") and not HELP & set(rest[:1]):
        assert rest and rest[0] in command.commands, f"no command {' '.join([*path, *rest[:1]])!r}"
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    return command, " ".join(path), rest


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The verb and its values, as the command reads them; nothing is run."""
    command, verb, rest = command_of(words)
    if HELP & set(rest):
        return verb, {}
    values: dict[str, Any] = command.make_context(verb.rpartition(" ")[2], repeat_pairs(rest)).params
    return verb, values


def settings_of(verb: str, values: dict[str, Any]) -> set[str]:
    """Settings that a call may set; checks that its methods exist."""
    if verb == "train":
        from torchspectral.learn.train import find_recipe

        return set(find_recipe(values["task"], values["method"]).Settings.model_fields)
    rooms = {card.room for card in registry.methods() if card.verb == verb.removeprefix("bench ")}
    if verb == "simulate wald":
        from torchspectral.sharpening.protocol import WaldSettings

        return set(WaldSettings.model_fields)
    if verb == "simulate mixture":
        from torchspectral.synth import MixtureSettings

        return set(MixtureSettings.model_fields)
    if verb == "simulate patches":
        from torchspectral.synth.patch_sets import PatchSettings

        return set(PatchSettings.model_fields)
    if verb == "simulate unmixing-set":
        from torchspectral.unmixing.protocol import UnmixingSetSettings

        return set(UnmixingSetSettings.model_fields)
    if verb == "bench unmix":
        from torchspectral.bench.unmixing import UnmixBenchSettings

        return set(UnmixBenchSettings.model_fields)
    if verb == "bench backbones":
        from torchspectral.bench.backbones import BackboneBenchSettings
        from torchspectral.classification.training import BackboneTraining

        tuned = {f"train.{name}" for name in ("epochs", *BackboneTraining.model_fields)}
        return tuned | set(BackboneBenchSettings.model_fields)
    if verb == "degrade":
        from torchspectral.restoration.degradation import DegradeSettings

        return set(DegradeSettings.model_fields)
    known: set[str] = set()
    for room in rooms:
        named = [n for n in str(values.get("method") or "all").split(",") if n != "all"]
        for card in [registry.card(room, n) for n in named] or registry.methods(room):
            known |= {row["name"] for row in registry.settings_table(card)}
    return known


def check(words: list[str]) -> None:
    verb, values = parsed(words)
    if verb == "methods" and values.get("room") not in (None, "io"):
        room = registry.room_of(values["room"])
        if values.get("method"):
            registry.card(room, values["method"])
    if values.get("resample") and verb == "convert":
        sensors.get(values["resample"])
    if "settings" in values or "method" in values:
        known = settings_of(verb, values)
        for pair in [*(values.get("settings") or ()), *(values.get("more") or ())]:
            assert pair.partition("=")[0] in known, f"{' '.join(words)!r}: no setting {pair!r}"


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name_of)
def test_commands_exist(page: Path) -> None:
    text = text_of(page)
    for words in listed(text):
        check(words)
    for words in mentioned(text):
        command, verb, rest = command_of(words)
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | HELP
        unknown = [word for word in rest if word.startswith("--") and word not in known]
        assert not unknown, f"{verb} has no option {', '.join(unknown)}"


def test_examples_in_the_help_exist() -> None:
    for path, command in verbs(command_line()):
        shown = re.findall(r"Example: (torchspectral [^\n]+)", command.help or "")
        assert shown, f"{' '.join(path)} has no example"
        for line in shown:
            words = shlex.split(line)[1:]
            assert words[: len(path)] == list(path)
            check(words)


def test_the_parser_of_these_tests_finds_faults() -> None:
    for wrong in ("sharpn a.tif", "info --statistics a.tif", "sharpen hs.tif pan.tif", "weights show"):
        with pytest.raises(Exception):  # noqa: B017  the parser's own errors
            parsed(wrong.split())
    with pytest.raises(AssertionError):
        check(["unmix", "a.tif", "-o", "b/", "--set", "colour=red"])
    with pytest.raises(UnknownName):
        check(["sharpen", "a.tif", "b.tif", "-o", "c.tif", "--method", "gsb", "--set", "x=1"])


# Python


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torchspectral"):
            yield from ((str(node.module), alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ts":
            yield "torchspectral", node.attr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_python_listings_exist(page: Path) -> None:
    text = text_of(page)
    for body in (body for language, body in SECTIONS.findall(text) if language == "python"):
        for module, name in _imports(ast.parse(body)):
            assert hasattr(importlib.import_module(module), name), f"{name_of(page)}: {module} has no {name}"
    for name in re.findall(r"`ts\.(\w+)", SECTIONS.sub("", text)):
        assert hasattr(ts, name), f"{name_of(page)}: ts has no {name}"
    for dotted in re.findall(r"`(torchspectral(?:\.\w+)+)`", SECTIONS.sub("", text)):
        module, _, name = dotted.rpartition(".")
        if "." not in module and name in ("readers", "methods", "models", "sensors"):
            continue  # entry point groups
        assert hasattr(importlib.import_module(module), name) or importlib.import_module(dotted), dotted
