"""A table of results and its bar plot as pictures."""

import unicodedata
from dataclasses import dataclass

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .tables import ABSENT, NEAR_ONE, Row, columns, direction, text, value, winners

SIZE, SMALL = 16, 12
PAD, LINE = 10, 20
LABEL = 24  # characters of a line of a label
THUMB, THUMBS = 96, 6  # height of a row's pictures, and how many of them are shown
PANEL, PANEL_LABEL, PANEL_VALUE, ACROSS = 400, 180, 64, 4
FIRST_BAR = 2 * LINE - 8
INK, GREY, LINES, PALE, GREEN, BLUE = (25, 25, 25), (120, 120, 120), (200, 200, 200), (238, 238, 238), (214, 240, 214), (120, 160, 210)
DARK_GREEN = (60, 150, 80)


@dataclass(frozen=True)
class _Places:
    """Where everything of a table stands, in pixels."""

    heads: list[list[str]]  # lines of each score's name
    labels: list[list[str]]  # lines of each row's label
    strips: list[Image.Image | None]
    first: int  # width of the labels' column
    widths: list[int]
    top: int
    heights: list[int]

    @property
    def beside(self) -> int:
        """Where the pictures begin."""
        return self.first + sum(self.widths) + PAD

    @property
    def size(self) -> tuple[int, int]:
        pictures = max([strip.width + PAD for strip in self.strips if strip is not None], default=0)
        return self.beside + pictures, self.top + sum(self.heights) + LINE + PAD


def _places(rows: list[Row], names: list[str]) -> _Places:
    strips, labels, heads = [_strip(row.pictures) for row in rows], [_wrap(row.label, LABEL) for row in rows], [_wrap(name, 12) for name in names]
    return _Places(
        heads=heads,
        labels=labels,
        strips=strips,
        first=max(_width(line, SIZE) for label in labels for line in label) + 2 * PAD,
        widths=[max(*(_width(line, SIZE) for line in [*head, "0.00001"]), _width(direction(name), SMALL)) + 2 * PAD for name, head in zip(names, heads)],
        top=(max([len(head) for head in heads], default=0) + 1) * LINE + PAD,
        heights=[max(len(label) * LINE, 0 if strip is None else strip.height) + PAD for label, strip in zip(labels, strips)],
    )


def draw_table(rows: list[Row]) -> Tensor:
    """IMAGE (1, H, W, 3): a line per row, a column per score, the best value of each in bold on green; pictures at the right."""
    names, best = columns(rows), winners(rows)
    places = _places(rows, names)
    sheet = Image.new("RGB", places.size, "white")
    draw, y = ImageDraw.Draw(sheet), places.top
    _heads(draw, names, places)
    for place, row in enumerate(rows):
        height, strip = places.heights[place], places.strips[place]
        if place % 2:
            draw.rectangle([0, y, sheet.width, y + height - 1], fill=PALE)
        _lines(draw, places.labels[place], PAD, y, height)
        _cells(draw, [(text(value(row, name)), place in best[name]) for name in names], places, y, height)
        if strip is not None:
            sheet.paste(strip, (places.beside, y + (height - strip.height) // 2))
        y += height
    draw.text((PAD, y + PAD // 2), "bold: best of the column    a dash: not measured, or does not apply" if names else "", fill=GREY, font=_font(SMALL))
    return _image(sheet)


def _heads(draw, names: list[str], places: _Places) -> None:
    x = places.first
    for name, head, width in zip(names, places.heads, places.widths):
        x += width
        for number, line in enumerate(head):
            _right(draw, line, x - PAD, PAD // 2 + number * LINE, SIZE, INK)
        _right(draw, direction(name), x - PAD, PAD // 2 + len(head) * LINE, SMALL, GREY)
    draw.line([0, places.top - 1, x, places.top - 1], fill=INK)


def _cells(draw, cells: list[tuple[str, bool]], places: _Places, y: int, height: int) -> None:
    x, middle = places.first, y + (height - LINE) // 2
    for (shown, wins), width in zip(cells, places.widths):
        if wins:
            draw.rectangle([x + PAD // 2, middle - 3, x + width - PAD // 2, middle + LINE + 1], fill=GREEN)
        x += width
        if shown == ABSENT:  # the font has no such letter
            draw.line([x - PAD - 10, middle + LINE // 2, x - PAD, middle + LINE // 2], fill=GREY)
        else:
            _right(draw, shown, x - PAD, middle, SIZE, INK, bold=wins)


def _lines(draw, lines: list[str], x: int, y: int, height: int) -> None:
    start = y + (height - len(lines) * LINE) // 2
    for number, line in enumerate(lines):
        draw.text((x, start + number * LINE), line, fill=INK, font=_font(SIZE))


def _strip(pictures: Tensor | None) -> Image.Image | None:
    """Up to six pictures of a batch, evenly spread, side by side."""
    if pictures is None:
        return None
    count = min(len(pictures), THUMBS)
    chosen = [pictures[round(place * (len(pictures) - 1) / max(count - 1, 1))] for place in range(count)]
    tiles = [Image.fromarray((one[..., :3].clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()) for one in chosen]
    width = max(1, round(THUMB * tiles[0].width / tiles[0].height))
    strip = Image.new("RGB", (count * (width + 4), THUMB), "white")
    for place, tile in enumerate(tiles):
        strip.paste(tile.resize((width, THUMB), Image.LANCZOS), (place * (width + 4), 0))
    return strip


def draw_plot(rows: list[Row]) -> Tensor:
    """IMAGE (1, H, W, 3): a panel of bars for every score; the best bars green, a line at 1 where 1 is best."""
    names, best = columns(rows), winners(rows)
    height = 2 * LINE + len(rows) * LINE + PAD
    across = min(ACROSS, max(len(names), 1))
    sheet = Image.new("RGB", (across * PANEL, max(1, -(-len(names) // across)) * height), "white")
    if not names:
        ImageDraw.Draw(sheet).text((PAD, PAD), "no scores", fill=GREY, font=_font(SIZE))
    for index, name in enumerate(names):
        sheet.paste(_panel(rows, name, best[name], height), (index % across * PANEL, index // across * height))
    return _image(sheet)


def _panel(rows: list[Row], name: str, best: set[int], height: int) -> Image.Image:
    panel = Image.new("RGB", (PANEL, height), "white")
    draw, values = ImageDraw.Draw(panel), [value(row, name) for row in rows]
    draw.text((PAD, 4), _printable(name), fill=INK, font=_font(SIZE), stroke_width=0.3, stroke_fill=INK)
    _right(draw, direction(name), PANEL - PAD, 6, SMALL, GREY)
    marks = (0.0, 1.0) if direction(name) == NEAR_ONE else (0.0,)
    known = [*marks, *(number for number in values if number is not None)]
    low, high = min(known), max(*known, 1e-9)
    across = lambda number: PANEL_LABEL + (PANEL - PANEL_LABEL - PANEL_VALUE) * (number - low) / (high - low)  # noqa: E731
    for mark in marks:
        draw.line([across(mark), FIRST_BAR - 4, across(mark), FIRST_BAR + len(rows) * LINE - 4], fill=LINES)
    for place, (row, number) in enumerate(zip(rows, values)):
        y = FIRST_BAR + place * LINE
        draw.text((PAD, y), _fit(row.label, PANEL_LABEL - PAD - 4, SMALL), fill=INK, font=_font(SMALL))
        _bar(draw, across, number, y, DARK_GREEN if place in best else BLUE)
    return panel


def _bar(draw, across, number: float | None, y: int, colour) -> None:
    """From 0 to a number, which stands behind it; a dash where there is none."""
    if number is None:
        draw.line([across(0.0) + 4, y + 8, across(0.0) + 12, y + 8], fill=GREY)
        return
    left, right = sorted((across(0.0), across(number)))
    draw.rectangle([left, y, max(right, left + 1), y + LINE - 6], fill=colour)
    draw.text((max(right, left + 1) + 4, y), text(number), fill=INK, font=_font(SMALL))


def _right(draw, shown: str, x: float, y: float, size: int, ink, bold: bool = False) -> None:
    weight = {"stroke_width": 0.4, "stroke_fill": ink} if bold else {}
    draw.text((x - _width(shown, size), y), _printable(shown), fill=ink, font=_font(size), **weight)


def _font(size: int):
    return ImageFont.load_default(size=size)


def _width(shown: str, size: int) -> int:
    return round(_font(size).getlength(_printable(shown)))


def _printable(shown: str) -> str:
    """As PIL's own font can print it, which has ASCII only: accents go, other letters become question marks."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", shown) if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()


def _wrap(shown: str, length: int) -> list[str]:
    """Lines of at most `length` letters, broken at spaces; at most four, then cut."""
    lines = [""]
    for word in shown.split():
        for piece in [word[start : start + length] for start in range(0, len(word), length)]:
            if lines[-1] and len(lines[-1]) + 1 + len(piece) > length:
                lines.append("")
            lines[-1] = f"{lines[-1]} {piece}".strip()
    return lines if len(lines) <= 4 else [*lines[:3], lines[3][: length - 3] + "..."]


def _fit(shown: str, width: int, size: int) -> str:
    while len(shown) > 1 and _width(shown, size) > width:
        shown = shown[:-4] + "..." if shown.endswith("...") else shown[:-3] + "..."
    return _printable(shown)


def _image(sheet: Image.Image) -> Tensor:
    return torch.from_numpy(numpy.asarray(sheet, dtype=numpy.float32) / 255.0)[None].clone()
