"""`--config`: the defaults of a command from a YAML file, an output's ``OUT.run.yaml`` among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

from torchspectral.errors import BadSettings, ProductNotFound, closest

ROOMS_OF = {
    "sharpen": "sharpening",
    "restore": "restoration",
    "unmix": "unmixing",
    "endmembers": "unmixing",
    "classify": "classification",
    "embed": "embedding",
    "reconstruct": "calibration",
}
_ROLES = {"cube": ("scenes", "scene", "interferograms"), "product": ("scenes", "scene")}
_RENAMED = {"set": "settings", "json": "as_json", "resample": "align", "open": "opening"}
_FACTS = ("overwrite", "resume", "config", "dry_run", "output")


def read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a YAML file the defaults of the command; words on the command line win.

    Raises
    ------
    ProductNotFound, BadSettings
        No such file; no YAML map; an option that the command does not have; the run of another verb.
    """
    if path is None:
        return None
    if not path.is_file():
        raise ProductNotFound(f"{path} does not exist: expected a YAML file with option names, such as OUT.run.yaml")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadSettings(f"{path} holds {type(values).__name__}, expected a map of option names")
    params = {p.name: p for p in ctx.command.params if p.name}
    repeats = "method" in values and "torchspectral" in values
    found = _of_run(values, ctx.info_name or "", path) if repeats else _by_hand(values, params, path)
    many = {name for name, p in params.items() if getattr(p, "multiple", False) or p.nargs == -1}
    ctx.default_map = {
        name: ([value] if name in many and not isinstance(value, list) else value)
        for name, value in found.items()
        if name in params and value is not None
    }
    return path


def _by_hand(values: Mapping[str, Any], params: Iterable[str], path: Path) -> dict[str, Any]:
    known = [n for n in params if n not in ("config", "help")]
    words = {_word(name): name for name in known}
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = words.get(_word(str(key)))
        if name is None:
            raise BadSettings(f"{path} sets {key!r}, which is no option here: {closest(str(key), sorted(words))}")
        found[name] = _plain(name, value, base=1)
    return found


def _word(name: str) -> str:
    """An option as people type it."""
    back = {kept: typed for typed, kept in _RENAMED.items() if typed != "resample"}
    return back.get(name, name).replace("_", "-")


def _of_run(values: Mapping[str, Any], verb: str, path: Path) -> dict[str, Any]:
    room, _, method = str(values["method"]).rpartition("/")
    made_by = room or method
    if made_by != ROOMS_OF.get(verb, verb) and method != verb:
        raise BadSettings(f"{path} tells of a run of {values['method']}, expected one of `torchspectral {verb}`")
    options = dict(values.get("options") or {})
    found: dict[str, Any] = {
        "method": method if room else None,
        "seed": values.get("seed"),
        "device": values.get("device"),
    }
    found["weights"] = values.get("weights") or None
    for name, value in options.items():
        if name == "orthorectify":
            found["keep_geometry"] = not value
        elif name not in _FACTS:
            option = name if verb == "convert" and name != "open" else _RENAMED.get(name, name)
            found[str(option)] = _plain(name, value, base=0)
    if values.get("settings"):
        found["settings"] = _plain("settings", values["settings"], base=0)
    for role, file in (values.get("inputs") or {}).items():
        for name in _ROLES.get(role, (role,)):
            files = file if isinstance(file, list) else [file]
            if all(isinstance(f, str) and Path(f).exists() for f in files):
                found[name] = file
    return found


def _plain(name: str, value: Any, *, base: int) -> Any:
    """A value as the command line would have it; `base` says what the file counts bands from."""
    if name == "settings" and isinstance(value, Mapping):
        return [f"{key}={_yaml(item)}" for key, item in value.items()]
    if name == "bands" and isinstance(value, list):
        return ",".join(str(int(band) + 1 - base) for band in value)
    if name == "bands":
        return str(value)
    if name == "tile" and isinstance(value, list):
        return "x".join(str(n) for n in value)
    return value


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()
