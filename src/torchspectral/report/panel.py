"""One PNG of many figures, to look at in one go."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchspectral.errors import BadSettings
from torchspectral.report.files import write_whole
from torchspectral.report.style import figure_png

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_MARGIN, _GAP = 28, 22
_INK, _PALE, _PAPER = "#1c1c1c", "#d5d5d5", "#ffffff"
_TALLEST = 30_000  # pixels; a picture viewer's usual limit is 2^15 - 1


def compose_panel(
    pictures: Sequence[tuple[str, Any]], *, columns: int = 2, column_width: int = 900, title: str = ""
) -> Picture:
    """Place figures under each other in columns, each with its caption, at equal widths.

    Parameters
    ----------
    pictures : sequence of (caption, picture)
        matplotlib Figures, PNG bytes or PIL images.
    columns : int
    column_width : int
        Pixels.
    title : str

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    BadSettings
        No pictures, no columns, columns narrower than 100 pixels, or a panel too tall for one picture.
    """
    from PIL import Image, ImageDraw

    if not pictures or columns < 1 or column_width < 100:
        raise BadSettings(
            f"got {len(pictures)} pictures in {columns} columns of {column_width} pixels, expected at least one "
            "picture, one column and 100 pixels"
        )
    columns = min(columns, len(pictures))
    heading, small = _font(30, bold=True), _font(17, bold=True)
    top = _MARGIN + (48 if title else 0)
    heights = [top] * columns
    placed: list[tuple[int, int, list[str], Picture]] = []
    for caption, picture in pictures:
        image = _image(picture, column_width)
        lines = _wrapped(caption, small, column_width)
        column = heights.index(min(heights))
        placed.append((_MARGIN + column * (column_width + _GAP), heights[column], lines, image))
        heights[column] += 24 * len(lines) + 6 + image.height + _GAP
    width = 2 * _MARGIN + columns * column_width + (columns - 1) * _GAP
    height = max(heights) - _GAP + _MARGIN
    if height > _TALLEST:
        raise BadSettings(f"the panel would be {height} pixels tall, {_TALLEST} are possible: ask for more columns")
    panel = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(panel)
    if title:
        draw.text((_MARGIN, _MARGIN - 6), title, fill=_INK, font=heading)
    for left, upper, lines, image in placed:
        for i, line in enumerate(lines):
            draw.text((left, upper + 24 * i), line, fill=_INK, font=small)
        under = upper + 24 * len(lines) + 6
        panel.paste(image, (left, under))
        draw.rectangle((left, under, left + image.width - 1, under + image.height - 1), outline=_PALE)
    return panel


def save_panel(
    pictures: Sequence[tuple[str, Any]],
    path: str | Path,
    *,
    columns: int = 2,
    column_width: int = 900,
    title: str = "",
    overwrite: bool = True,
) -> Path:
    """Write `compose_panel` as PNG.

    Raises
    ------
    BadSettings, OutputExists, OutputFailed
    """
    buffer = io.BytesIO()
    compose_panel(pictures, columns=columns, column_width=column_width, title=title).save(buffer, "PNG", optimize=True)
    return write_whole(path, buffer.getvalue(), overwrite=overwrite)


def _image(picture: Any, width: int) -> Picture:
    """A picture as RGB of a given width; small ones are centred on white instead of blown up."""
    from PIL import Image

    if hasattr(picture, "savefig"):
        picture = figure_png(picture, dpi=min(115.0, width / float(picture.get_size_inches()[0])))
    try:
        image = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
        rgba = image.convert("RGBA")
    except (OSError, AttributeError, TypeError):
        raise BadSettings(
            f"got {type(picture).__name__} as picture, expected a Figure, PNG bytes or a PIL image"
        ) from None
    if rgba.width > width:
        rgba = rgba.resize((width, max(1, round(rgba.height * width / rgba.width))), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (width, rgba.height), _PAPER)
    sheet.paste(rgba, ((width - rgba.width) // 2, 0), rgba)
    return sheet


def _font(size: int, *, bold: bool = False) -> Any:
    """The font that matplotlib ships."""
    from matplotlib.font_manager import FontProperties, findfont
    from PIL import ImageFont

    file = findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    return ImageFont.truetype(file, size)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
