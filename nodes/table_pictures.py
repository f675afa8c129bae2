"""A table of results and its bar plot as pictures."""

import unicodedata

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..models.metrics.scores import MEANINGS, ONE
from .tables import ABSENT, Row, columns, direction, text, value, winners

SIZE, SMALL = 16, 12
PAD, LINE = 10, 20
LABEL = 24  # characters of a line of a label
THUMB, THUMBS = 96, 6  # height of a row's pictures, and how many of them are shown
PANEL, PANEL_LABEL, PANEL_VALUE, ACROSS = 400, 180, 64, 4
INK, GREY, LINES, PALE, GREEN, BLUE = (25, 25, 25), (120, 120, 120), (200, 200, 200), (238, 238, 238), (214, 240, 214), (120, 160, 210)
DARK_GREEN = (60, 150, 80)


def draw_table(rows: list[Row]) -> Tensor:
    """IMAGE (1, H, W, 3): a line per row, a column per score, the best value of each in bold on green; pictures at the right."""
    names, best, strips = columns(rows), winners(rows), [_strip(row.pictures) for row in rows]
    labels = [_wrap(row.label, LABEL) for row in rows]
    heads = [[*_wrap(name, 12), ""] for name in names]
    first = max(_width(line, SIZE) for label in labels for line in label) + 2 * PAD
    widths = [max(*(_width(line, SIZE) for line in head), _width(direction(name), SMALL), 48) + 2 * PAD for name, head in zip(names, heads)]
    top = max([len(head) for head in heads], default=1) * LINE + PAD
    heights = [max(len(label) * LINE, 0 if strip is None else strip.height) + PAD for label, strip in zip(labels, strips)]
    aside = max([strip.width + 2 * PAD for strip in strips if strip is not None], default=0)
    sheet = Image.new("RGB", (first + sum(widths) + aside + PAD, top + sum(heights) + LINE + PAD), "white")
    draw, y = ImageDraw.Draw(sheet), top
    _heads(draw, names, heads, first, widths, top)
    for place, (row, label, strip, height) in enumerate(zip(rows, labels, strips, heights)):
        if place % 2:
            draw.rectangle([0, y, sheet.width, y + height - 1], fill=PALE)
        _lines(draw, label, PAD, y, height)
        _cells(draw, [(text(value(row, name)), place in best[name]) for name in names], first, widths, y, height)
        if strip is not None:
            sheet.paste(strip, (first + sum(widths) + PAD, y + (height - strip.height) // 2))
        y += height
    draw.text((PAD, y + PAD // 2), "bold: best of the column    a dash: not measured, or does not apply" if names else "", fill=GREY, font=_font(SMALL))
    return _image(sheet)


def _heads(draw, names: list[str], heads: list[list[str]], x: int, widths: list[int], top: int) -> None:
    for name, head, width in zip(names, heads, widths):
        for number, line in enumerate(head):
            _right(draw, line, x + width - PAD, PAD // 2 + number * LINE, SIZE, INK)
        _right(draw, direction(name), x + width - PAD, PAD // 2 + (len(head) - 1) * LINE, SMALL, GREY)
        x += width
    draw.line([0, top - 1, x + PAD, top - 1], fill=INK)


def _cells(draw, cells: list[tuple[str, bool]], x: int, widths: list[int], y: int, height: int) -> None:
    for (shown, wins), width in zip(cells, widths):
        middle = y + (height - LINE) // 2
        if wins:
            draw.rectangle([x + PAD // 2, middle - 3, x + width - PAD // 2, middle + LINE + 1], fill=GREEN)
        if shown == ABSENT:  # the font has no such letter
            draw.line([x + width - PAD - 10, middle + LINE // 2, x + width - PAD, middle + LINE // 2], fill=GREY)
        else:
            _right(draw, shown, x + width - PAD, middle, SIZE, INK, bold=wins)
        x += width


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
    draw = ImageDraw.Draw(panel)
    draw.text((PAD, 4), _printable(name), fill=INK, font=_font(SIZE), stroke_width=0.3, stroke_fill=INK)
    _right(draw, direction(name), PANEL - PAD, 6, SMALL, GREY)
    values = [value(row, name) for row in rows]
    centre = name in MEANINGS and MEANINGS[name].best == ONE
    low, high = min([0.0, *(one for one in values if one is not None)]), max([1e-9, 1.0 if centre else 0.0, *(one for one in values if one is not None)])
    across = lambda number: PANEL_LABEL + (PANEL - PANEL_LABEL - PANEL_VALUE) * (number - low) / (high - low)  # noqa: E731
    bottom = 2 * LINE - 8 + len(rows) * LINE - 4
    for at in (0.0, *((1.0,) if centre else ())):
        draw.line([across(at), 2 * LINE - 12, across(at), bottom], fill=LINES)
    for place, (row, number) in enumerate(zip(rows, values)):
        y = 2 * LINE - 8 + place * LINE
        draw.text((PAD, y), _fit(row.label, PANEL_LABEL - PAD - 4, SMALL), fill=INK, font=_font(SMALL))
        if number is None:
            draw.line([across(0) + 4, y + 8, across(0) + 12, y + 8], fill=GREY)
            continue
        left, right = sorted((across(0.0), across(number)))
        draw.rectangle([left, y, max(right, left + 1), y + LINE - 6], fill=DARK_GREEN if place in best else BLUE)
        draw.text((max(right, left + 1) + 4, y), text(number), fill=INK, font=_font(SMALL))
    return panel


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
