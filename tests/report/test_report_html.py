"""HTML reports: safe, self-contained, and every number says where it comes from."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from torchspectral.errors import BadSettings, OutputExists, OutputFailed
from torchspectral.report import bars, render_html, write_html
from torchspectral.report.tables import Table
from torchspectral.result import Report

EVIL = "<script>alert('x')</script>\"onload='y"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks nesting and collects elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [a for t, a in self.tags if t == tag]


def report() -> Report:
    return Report(
        method="sharpening/gsa",
        settings={"ratio": 3, "tolerance": 1e-4},
        inputs={"cube": "scene.tif"},
        dropped=["6 bands that are not good"],
        figures={"bands": 218, "iterations": 25, "loss": 0.125},
        seconds={"fit": 1.25, "apply": 3.0},
        seed=7,
        device="cpu",
        weights="gsa.none",
    )


def section(**more) -> dict:
    return {
        "title": "One",
        "provenance": [report()],
        "tables": [("Scores", [{"method": "gsa", "ERGAS": 3.5, "run": 1}])],
        **more,
    }


def test_hostile_text_is_escaped_everywhere() -> None:
    figure = bars({EVIL: 1.0}, label="x")
    hostile = Report(method=EVIL, settings={EVIL: EVIL}, notes=[EVIL], figures={EVIL: EVIL}, weights=EVIL)
    text = render_html(
        title=EVIL,
        intro=EVIL,
        sections=[
            {
                "title": EVIL,
                "name": EVIL,
                "text": EVIL,
                "figures": [(EVIL, figure)],
                "tables": [(EVIL, [{EVIL: EVIL, "run": 1}])],
                "provenance": [hostile],
                "files": [EVIL, "javascript:alert(1)", "../../etc/passwd", "/etc/passwd", "http://x/y", "ok/a.tif"],
            },
            {"title": "second"},
        ],
    )
    page = Page(text)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert EVIL in "".join(page.texts)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    links = [a["href"] for a in page.all("a")]
    # A strange name may link to a file of that name beside the page; nothing else leaves the page.
    assert [h for h in links if not h.startswith("#")] == [EVIL, "ok/a.tif"]
    assert all(re.fullmatch(r"#[\w\-]+", h) or h in (EVIL, "ok/a.tif") for h in links if h[1:] not in _ids(page))


def _ids(page: Page) -> set[str]:
    return {a["id"] for _, a in page.tags if a.get("id")}


def test_the_page_loads_nothing() -> None:
    text = render_html(title="t", sections=[section(figures=[("f", bars({"a": 1.0}, label="x"))])])
    page = Page(text)
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.all("img")) and page.all("img")
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    outside = list(re.findall(r"(?:https?:)?//[^\s\"'<>]+", re.sub(r"base64,[^\"]+", "", text)))
    assert outside == []
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_provenance_names_what_a_number_needs() -> None:
    text = render_html(title="t", sections=[section(seconds=4.26)])
    page = Page(text)
    flat = " ".join(" ".join(page.texts).split())
    for part in ("sharpening/gsa", "ratio=3, tolerance=0.0001", "218", "25", "4.25", "cpu", "gsa.none", "loss=0.125",
                 "6 bands that are not good", "cube=scene.tif", "fit=1.25", "took 4.3 s"):  # fmt: skip
        assert part in flat, part
    target = next(a["href"] for a in page.all("a"))
    assert target[1:] in {a.get("id") for a in page.all("tr")}
    plain = render_html(title="t", made="now", sections=[section(provenance=[report().as_dict()])])
    assert plain == render_html(title="t", made="now", sections=[section()])


def test_best_cells_and_several_sections() -> None:
    table = Table([{"m": "a", "SAM": 1.0}, {"m": "b", "SAM": 2.0}], best="auto")
    page = Page(render_html(title="t", sections=[{"title": "A", "tables": [("", table)]}, {"title": "A"}]))
    assert [a["class"] for a in page.all("td")] == ["", "n best", "", "n"]
    ids = [a["id"] for a in page.all("section")]
    assert len(set(ids)) == 2 == len([a for a in page.all("a") if a["href"][1:] in ids])


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_html(tmp_path / "r.html", title="t", sections=[section()])
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(OutputExists):
        write_html(path, title="t", sections=[section()], overwrite=False)
    with pytest.raises(OutputFailed):
        write_html(tmp_path / "no" / "r.html", title="t", sections=[section()])


def test_refusals() -> None:
    with pytest.raises(BadSettings, match="unknown key 'figure'"):
        render_html(title="t", sections=[{"title": "x", "figure": 1}])
    with pytest.raises(BadSettings, match="no title"):
        render_html(title="t", sections=[{"text": "x"}])
    with pytest.raises(BadSettings, match="expected a matplotlib Figure or PNG bytes"):
        render_html(title="t", sections=[{"title": "x", "figures": [("c", np.zeros((2, 2)))]}])
