"""What demo, benchmarks, pages and notebooks call exists: names, keywords, methods, settings; nothing of it is run."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from test_docs_words import HELP, NOTEBOOKS, PAGES, ROOT, SECTIONS, command_of, mentioned, name_of, settings_of

import torchspectral as ts
from torchspectral import registry
from torchspectral.errors import TorchspectralError
from torchspectral.settings import Settings

PROGRAMS = [
    *sorted((ROOT / "benchmarks").glob("*.py")),
    *sorted((ROOT / "src" / "torchspectral" / "demo").rglob("*.py")),
]
RUN = {field.name for field in fields(ts.RunOptions)}


def code_of(place: Path) -> str:
    """Its Python: of a page the listings, of a notebook the cells."""
    text = place.read_text(encoding="utf-8")
    if place.suffix == ".py":
        return text
    if place.suffix == ".md":
        return "\n".join(body for language, body in SECTIONS.findall(text) if language == "python")
    return "\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code")


def imported(tree: ast.AST) -> dict[str, Any]:
    """What the names stand for that are imported from the package, anywhere in the program."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torchspectral":
                    module = importlib.import_module(alias.name)
                    found[alias.asname or "torchspectral"] = module if alias.asname else ts
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torchspectral":
            for alias in node.names:
                found[alias.asname or alias.name] = member(importlib.import_module(str(node.module)), alias.name)
    taken = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    taken |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {name: value for name, value in found.items() if name not in taken}


def member(owner: Any, name: str) -> Any:
    if not hasattr(owner, name) and hasattr(owner, "__path__"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"{owner.__name__}.{name}")
    assert hasattr(owner, name), f"{getattr(owner, '__name__', owner)} has no {name}"
    return getattr(owner, name)


def meant(node: ast.expr, names: dict[str, Any]) -> Any:
    """The module, class or function of the package that an expression names, or None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = meant(node.value, names)
        if inspect.ismodule(owner) or (inspect.isclass(owner) and issubclass(owner, Settings)):
            return member(owner, node.attr)
    return None


@cache
def parameters(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def plain(node: ast.expr | None) -> Any:
    """The value of a literal, else None."""
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def constants(tree: ast.Module) -> dict[str, list[Any]]:
    """The values of literals at the top of a program."""
    found: dict[str, list[Any]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and plain(node.value) is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {t.id: [plain(node.value)] for t in targets if isinstance(t, ast.Name)}
    return found


def within(scope: ast.stmt, known: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Values that names have in a function: constants, and what is looped over of them."""
    nodes = list(ast.walk(scope))
    stored = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    found = dict(known)
    for node in nodes:
        if isinstance(node, ast.For | ast.comprehension):
            items = isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Attribute)
            items = items and node.iter.func.attr == "items"  # type: ignore[attr-defined]
            for whole in possible(node.iter.func.value if items else node.iter, found):  # type: ignore[attr-defined]
                if isinstance(whole, dict | list | tuple):
                    bind(node.target, list(whole.items() if items else whole), found)  # type: ignore[union-attr]
    # Names that stand for several things tell nothing.
    twice = {name for name in stored if stored.count(name) > 1 or (name in known and stored.count(name))}
    return {name: values for name, values in found.items() if name not in twice}


def bind(target: ast.expr, values: list[Any], found: dict[str, list[Any]]) -> None:
    if isinstance(target, ast.Name):
        found[target.id] = values
    elif isinstance(target, ast.Tuple):
        for n, part in enumerate(target.elts):
            bind(part, [v[n] for v in values if isinstance(v, list | tuple) and len(v) == len(target.elts)], found)


def possible(node: ast.expr | None, known: dict[str, list[Any]]) -> list[Any]:
    """Values that an expression may have, as far as constants tell."""
    if isinstance(node, ast.Name):
        return known.get(node.id, [])
    return [plain(node)]


def keys_of(node: ast.expr | None) -> list[str]:
    """Keys of a mapping that are written out."""
    return [str(plain(k)) for k in node.keys if plain(k) is not None] if isinstance(node, ast.Dict) else []


def check_call(call: ast.Call, function: Any, known: dict[str, list[Any]]) -> None:
    signature = parameters(function)
    if signature is None:
        return
    kinds = {p.kind for p in signature.parameters.values()}
    given = {k.arg: k.value for k in call.keywords if k.arg}
    spread = any(isinstance(a, ast.Starred) for a in call.args) or len(given) < len(call.keywords)
    name = getattr(function, "__name__", str(function))
    room = room_of(name, function)
    unknown = set(given) - set(signature.parameters)
    if inspect.Parameter.VAR_KEYWORD in kinds:
        unknown = unknown - RUN if room else set()
    assert not unknown, f"{name} takes no {', '.join(sorted(unknown))}"
    if not spread:
        try:
            signature.bind(*call.args, **given)
        except TypeError as error:
            raise AssertionError(f"{name}: {error}") from None
    if name == "make" and inspect.isclass(getattr(function, "__self__", None)):
        check_settings(set(function.__self__.model_fields), keys_of(call.args[0] if call.args else None), str(function))
    elif name == "train":
        task, method = (plain(given.get(n, call.args[i] if i < len(call.args) else None)) for i, n in enumerate(_TRAIN))
        if isinstance(task, str) and isinstance(method, str):
            check_settings(
                settings_of("train", {"task": task, "method": method}), keys_of(given.get("settings")), method
            )
    elif room:
        methods = [m for m in possible(given.get("method"), known) if isinstance(m, str)]
        for method in methods:
            registry.card(room, method)
        keys = [keys_of(given.get("settings"))]
        keys += [list(v) for v in possible(given.get("settings"), known) if isinstance(v, dict)]
        # Of several methods and settings nobody knows which belong together: one that has them all is enough.
        for wanted in keys:
            have = [settings_of(verb_of(room), {"method": method}) for method in methods or [None]]
            best = min(have, key=lambda settings: len(set(wanted) - settings))
            check_settings(best, wanted, f"{name} {' '.join(methods)}")


_TRAIN = ("task", "method")


def verb_of(room: str) -> str:
    return next(card.verb for card in registry.methods(room))


def room_of(name: str, function: Any) -> str | None:
    """The room of a verb that runs its methods."""
    method = inspect.signature(function).parameters.get("method")
    if getattr(ts, name, None) is not function or method is None:
        return None
    room = str(function.__module__).split(".")[1]
    known = [card.name for card in registry.methods() if card.room == room]
    return room if known and method.default in (None, *known) else None


def check_settings(known: set[str], keys: list[str], what: str) -> None:
    unknown = set(keys) - known
    assert not unknown, f"{what} has no setting {', '.join(sorted(unknown))}"


def check_program(code: str) -> int:
    """Check every call that can be followed; returns how many there were."""
    tree = ast.parse("\n".join(line for line in code.splitlines() if not line.startswith(("%", "!"))))
    names, known, count = imported(tree), constants(tree), 0
    for scope in tree.body:
        local = within(scope, known)
        for node in ast.walk(scope):
            if isinstance(node, ast.Attribute):
                meant(node, names)
            if isinstance(node, ast.Call) and callable(function := meant(node.func, names)):
                try:
                    check_call(node, function, local)
                except (AssertionError, TorchspectralError) as error:
                    raise AssertionError(f"line {node.lineno}, {ast.unparse(node)[:120]}: {error}") from None
                count += 1
    return count


@pytest.mark.parametrize("place", [*PROGRAMS, *PAGES, *NOTEBOOKS], ids=name_of)
def test_calls_exist(place: Path) -> None:
    check_program(code_of(place))
    if place in PROGRAMS:
        for words in mentioned(code_of(place)):
            command, verb, rest = command_of(words)
            known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | HELP
            assert not [w for w in rest if w.startswith("--") and w not in known], (verb, rest)


def test_every_section_of_the_demo_says_what_it_is() -> None:
    from torchspectral.demo import find_sections

    found = find_sections()
    assert list(found) == sorted(found, key=lambda name: found[name].ORDER)
    for name, section in found.items():
        assert section.__doc__ and list(inspect.signature(section.run).parameters) == ["context"], name
        assert check_program(Path(section.__file__).read_text(encoding="utf-8")) > 3, f"{name}: no call was followed"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ts.sharpn(a, b)", "no sharpn"),
        ("from torchspectral.io import open_produkt", "no open_produkt"),
        ("ts.restore(a, methods='mnf')", "takes no methods"),
        ("ts.restore(a, method='mnff')", "mnff"),
        ("ts.restore(a, method='mnf', settings={'colour': 1})", "no setting colour"),
        ("M = {'mnf': 1, 'mnff': 2}\nfor m, n in M.items():\n    ts.restore(a, method=m)", "mnff"),
        ("S = {'colour': 1}\nts.restore(a, method='mnf', settings=S)", "no setting colour"),
        ("ts.unmix(a, 3, 4)", "too many positional"),
        ("ts.train('sharpen', 'hyperpnn', a, out=b, settings={'colour': 1})", "no setting colour"),
        ("from torchspectral.synth import MixtureSettings\nMixtureSettings.make({'colour': 1})", "no setting colour"),
    ],
)
def test_the_checker_finds_faults(code: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_program(f"import torchspectral as ts\n{code}")
