"""Self-contained HTML reports: sections, figures as inline PNG, tables, and where every number comes from."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchspectral.errors import BadSettings
from torchspectral.report.files import write_whole
from torchspectral.report.style import figure_png
from torchspectral.report.tables import Table
from torchspectral.result import Report

if TYPE_CHECKING:
    from jinja2 import Template

SECTION_KEYS = ("name", "title", "text", "figures", "tables", "provenance", "files", "seconds")
_LISTS = ("dropped", "filled", "scaled", "resampled", "notes", "history")


def render_html(
    *, title: str, sections: Sequence[Mapping[str, Any]], intro: str = "", made: str | None = None, dpi: float = 120
) -> str:
    """One HTML page without scripts and without anything loaded from the net; all text is escaped.

    Parameters
    ----------
    title, intro : str
        Plain text; blank lines part paragraphs.
    sections : sequence of dict
        Keys: ``title``; optional ``name`` (for links), ``text``, ``figures`` (list of (caption, Figure or PNG bytes)),
        ``tables`` (list of (caption, rows or `Table`); a row's column ``run`` links to the n-th provenance entry),
        ``provenance`` (list of `Report` or its ``as_dict``), ``files`` (paths relative to the page), ``seconds``.
    made : str, optional
        Date of the page; now (UTC) by default.
    dpi : float
        Resolution of the figures.

    Raises
    ------
    BadSettings
        A section without title, with an unknown key or with a thing that is no figure.
    """
    parts = [_section(number, section, dpi) for number, section in enumerate(sections, start=1)]
    when = made if made is not None else datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return _template().render(title=title, paragraphs=_paragraphs(intro), sections=parts, made=when, version=_version())


def write_html(
    path: str | Path,
    *,
    title: str,
    sections: Sequence[Mapping[str, Any]],
    intro: str = "",
    made: str | None = None,
    dpi: float = 120,
    overwrite: bool = True,
) -> Path:
    """Write `render_html` to a file.

    Raises
    ------
    BadSettings, OutputExists, OutputFailed
    """
    page = render_html(title=title, sections=sections, intro=intro, made=made, dpi=dpi)
    return write_whole(path, page.encode("utf-8"), overwrite=overwrite)


def _version() -> str:
    import torchspectral

    return torchspectral.__version__


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("torchspectral.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _section(number: int, section: Mapping[str, Any], dpi: float) -> dict[str, Any]:
    unknown = [key for key in section if key not in SECTION_KEYS]
    if unknown or not section.get("title"):
        wrong = f"unknown key {unknown[0]!r}" if unknown else "no title"
        raise BadSettings(f"section {number} has {wrong}, expected a title and some of {', '.join(SECTION_KEYS)}")
    anchor = re.sub(r"[^a-z0-9]+", "-", str(section.get("name") or section["title"]).lower()).strip("-")
    anchor = f"s{number}-{anchor}" if anchor else f"s{number}"
    return {
        "anchor": anchor,
        "title": str(section["title"]),
        "paragraphs": _paragraphs(str(section.get("text") or "")),
        "figures": [{"caption": c, "address": _address(f, dpi)} for c, f in section.get("figures") or ()],
        "tables": [_table(caption, rows) for caption, rows in section.get("tables") or () if rows],
        "runs": [_run(entry) for entry in section.get("provenance") or ()],
        "files": [{"name": str(f), "link": _is_local(str(f))} for f in section.get("files") or ()],
        "seconds": section.get("seconds"),
    }


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _address(figure: Any, dpi: float) -> str:
    data = figure_png(figure, dpi) if hasattr(figure, "savefig") else figure
    if not isinstance(data, bytes) or not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise BadSettings(f"got {type(figure).__name__} as figure, expected a matplotlib Figure or PNG bytes")
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _is_local(name: str) -> bool:
    """Whether a name is a plain relative path, and so may become a link."""
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]", name) and ".." not in Path(name).parts


def _table(caption: str, rows: Any) -> dict[str, Any]:
    table = rows if isinstance(rows, Table) else Table(rows)
    return {
        "caption": caption or table.caption,
        "columns": list(zip(table.columns, table.numeric, strict=True)),
        "rows": table.cells(),
        "run": table.columns.index("run") if "run" in table.columns else -1,
        "has_best": any(cell.best for row in table.cells() for cell in row),
    }


def _run(entry: Report | Mapping[str, Any]) -> dict[str, Any]:
    """One provenance entry: the facts that stand in the table, and the rest folded away."""
    facts = dict(entry.as_dict() if isinstance(entry, Report) else entry)
    numbers = dict(facts.get("figures") or {})
    seconds = facts.get("seconds") or {}
    total = sum(seconds.values()) if isinstance(seconds, Mapping) else seconds
    memory = facts.get("peak_memory")
    rest = {key: facts[key] for key in _LISTS if facts.get(key)}
    others = {k: v for k, v in numbers.items() if k not in ("bands", "iterations")}
    return {
        "method": facts.get("method") or "?",
        "settings": _pairs(facts.get("settings")),
        "options": _pairs(facts.get("options")),
        "inputs": _pairs(facts.get("inputs")),
        "bands": _short(numbers.get("bands", "")),
        "iterations": _short(numbers.get("iterations", "")),
        "seconds": f"{float(total):.2f}" if total else "",
        "stages": _pairs(seconds) if isinstance(seconds, Mapping) and len(seconds) > 1 else [],
        "seed": "" if facts.get("seed") is None else str(facts["seed"]),
        "device": str(facts.get("device") or ""),
        "memory": f"{memory / 2**20:.0f} MiB" if memory else "",
        "weights": " · ".join(str(facts[k]) for k in ("weights", "licence") if facts.get(k)),
        "numbers": _pairs(others),
        "lists": {key: [str(line) for line in lines] for key, lines in rest.items()},
    }


def _pairs(values: Any) -> list[tuple[str, str]]:
    return [(str(k), _short(v)) for k, v in values.items()] if isinstance(values, Mapping) else []


def _short(value: Any, limit: int = 160) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
