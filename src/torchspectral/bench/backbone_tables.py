"""Rows of the tables of the bench of backbones, and what papers say beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

CONFIGURATIONS = ("id", "ood_a", "ood_complement", "ood_full")


def published(suite: str) -> dict[str, Any]:
    """What others say of a suite: ``source``, ``sets`` (main figure, percent by backbone), ``cross_spectral``."""
    text = resources.files("torchspectral.bench").joinpath("published_backbones.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)[suite]
    return found


def cross_rows(found: Sequence[Mapping[str, Any]], said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean and deviation over the seeds of what was measured a set, backbone, set of bands and way."""
    from torchspectral.report.tables import mean_std

    groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in found:
        groups.setdefault((row["set"], row["backbone"], row["configuration"], row["way"]), []).append(row)
    made = []
    for (name, backbone, bands, way), rows in groups.items():
        values = {
            figure: mean_std([float(r[figure]) for r in rows]) if len(rows) > 1 else float(rows[0][figure])
            for figure in ("oa", "iou_micro", "iou_macro", "drop_iou_micro")
        }
        theirs = next((v for k, v in said.get(name, {}).items() if backbone.startswith(k)), None)
        published = {} if theirs is None else {"paper says [%]": theirs[CONFIGURATIONS.index(bands)]}
        made.append({"set": name, "backbone": backbone, "bands": bands, "way": way, **values, **published})
    if any("paper says [%]" in row for row in made):
        made = [{**row, "paper says [%]": row.get("paper says [%]")} for row in made]
    return made


def beside(facts: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The published main figure of a backbone's family, beside the row of its full tuning."""
    known = facts.get("said") or {}
    if not known:
        return {}
    value = next((v for name, v in known.items() if method.startswith(name)), None)
    return {"paper says [%]": value if method.endswith(", full") else None}


def tail(row: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The last columns of the table of all sets: what others say, and a note."""
    said = {"paper says [%]": row.get("paper says [%]"), "others say [%]": _others(facts)}
    return {**said, "note": row.get("note", "")}


def _others(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in (facts.get("said") or {}).items())


def counted(counts: Mapping[str, int]) -> str:
    """Patches of each part, for captions."""
    return ", ".join(f"{count} {part}" for part, count in counts.items()) + " patches"
