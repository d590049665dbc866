"""Settings of a method read from its source text, so that listing methods imports none of them."""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

_Found = tuple[str, ast.ClassDef]


def settings_in_source(module: str, class_name: str) -> list[dict[str, str]] | None:
    """Rows of `Settings.table` for the settings of a class, from the modules that define both and their bases.

    Parameters
    ----------
    module, class_name : str
        Where the method is; nothing is imported.

    Returns
    -------
    list of dict or None
        name, type, default, unit, meaning; None where the source does not tell.
    """
    named = _settings_of(module, class_name)
    if named is None:
        return None
    chain = _ancestors(named[0], named[1].name)
    if not chain or chain[-1][1].name != "Settings":
        return None
    rows: dict[str, dict[str, str]] = {}
    for where, cls in reversed(chain[:-1]):
        for node in cls.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            row = _row(node, where)
            if row is None:
                return None
            rows[row["name"]] = row
    return list(rows.values())


def _row(node: ast.AnnAssign, module: str) -> dict[str, str] | None:
    call = node.value
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "setting" or not isinstance(node.target, ast.Name):
        return None
    given = dict(zip(("default", "description", "unit"), call.args, strict=False))
    given |= {k.arg: k.value for k in call.keywords if k.arg in ("default", "description", "unit")}
    try:
        text = {name: str(ast.literal_eval(value)) for name, value in given.items() if name != "default"}
    except ValueError:
        return None
    return {
        "name": node.target.id,
        "type": _type(node.annotation, module),
        "default": ast.unparse(given["default"]) if "default" in given else "",
        "unit": text.get("unit", ""),
        "meaning": text.get("description", ""),
    }


def _type(annotation: ast.expr, module: str) -> str:
    """Text of a type; a name that the module itself gives to a type is spelt out."""
    tree = _tree(module)
    for node in tree.body if tree and isinstance(annotation, ast.Name) else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ast.unparse(annotation):
            return ast.unparse(node.value)
    return ast.unparse(annotation)


def _settings_of(module: str, class_name: str) -> _Found | None:
    """The class that a method, or the nearest of its bases, names as its ``Settings``."""
    for where, cls in _ancestors(module, class_name):
        for node in cls.body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            value = getattr(node, "value", None)
            if isinstance(value, ast.Name) and any(isinstance(t, ast.Name) and t.id == "Settings" for t in targets):
                return _find(where, value.id)
    return None


def _ancestors(module: str, name: str) -> list[_Found]:
    """A class and its first bases, as far as the source of this package tells."""
    found: list[_Found] = []
    here = _find(module, name)
    while here is not None and len(found) < 32:
        found.append(here)
        base = here[1].bases[0] if here[1].bases else None
        here = _find(here[0], base.id) if isinstance(base, ast.Name) else None
    return found


def _find(module: str, name: str) -> _Found | None:
    """The class called `name` in a module, followed through ``from ... import``."""
    for _ in range(8):
        tree = _tree(module)
        if tree is None:
            return None
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return module, node
        imported = [
            (node.module, alias.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module and not node.level
            for alias in node.names
            if (alias.asname or alias.name) == name
        ]
        if not imported:
            return None
        module, name = imported[0]
    return None


@lru_cache(maxsize=256)
def _tree(module: str) -> ast.Module | None:
    """Syntax tree of a module; packages above it are located, not imported."""
    places: list[str] | None = None
    spec = None
    for depth, _ in enumerate(parts := module.split(".")):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), places)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or [])
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    try:
        return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
