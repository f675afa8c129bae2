"""The table of a batch as a picture: a line over one axis of numbers, dots over one axis of words, heat maps over two or more."""

import itertools
import json
import math
import textwrap

from PIL import Image, ImageDraw, ImageFont

from .table import Table, as_text, is_number

PANEL, HEIGHT = 560, 340  # pixels of a panel of lines
LINE, ROW, GAP, TITLE = 15, 26, 14, 30
INK, FAINT, GRID, DOT = (40, 40, 40), (120, 120, 120), (226, 226, 226), (31, 119, 180)
LOW, HIGH = (247, 251, 255), (8, 69, 148)  # colours of a heat map's least and greatest value
WIDTH = 1500  # pixels; panels stand beside one another up to this
LABEL = 30  # characters of a label
HEAD = TITLE + 2 * LINE + 6  # above a heat map's cells
CELL = 92  # pixels; width of a heat map's cell
MOST = 40  # rows of labels or panels; what is beyond is in the table only


def font(size: int = 12):
    return ImageFont.load_default(size=size)


def draw(table: Table) -> Image.Image:
    """All quantities, a panel each."""
    panel = panel_for(table)
    shown = [name for name in table.quantities if not is_constant(table, name)] or table.quantities
    sheet = together([panel(table, name) for name in shown[:MOST]])
    return with_footer(sheet, footer(table, shown))


def is_constant(table: Table, quantity: str) -> bool:
    """Whether all points have the same mean, which needs no panel."""
    return len({point.numbers[quantity].mean for point in table.points if quantity in point.numbers}) == 1 and len(table.points) > 1


def footer(table: Table, shown: list[str]) -> str:
    """What the marks mean, and what has no panel."""
    notes = []
    if any(number.spread is not None for point in table.points for number in point.numbers.values()):
        notes.append("mean and standard deviation over the runs of a point (seeds)")
    if any(point.failed == point.runs for point in table.points):
        notes.append("crossed out or failed: no run of it ended well")
    same = [f"{name} {next(point.numbers[name].mean for point in table.points if name in point.numbers):.4g}"
            for name in table.quantities if name not in shown]
    return "; ".join([*notes, *(["the same everywhere: " + ", ".join(same)] if same else [])])


def with_footer(sheet: Image.Image, text: str) -> Image.Image:
    """The sheet with lines of text below it."""
    if not text:
        return sheet
    lines = textwrap.wrap(text, max(sheet.width // 7, 30))
    whole = Image.new("RGB", (sheet.width, sheet.height + LINE * len(lines) + GAP), "white")
    whole.paste(sheet, (0, 0))
    ImageDraw.Draw(whole).text((GAP, sheet.height), "\n".join(lines), fill=FAINT, font=font())
    return whole

def panel_for(table: Table):
    if len(table.axes) > 1:
        return heat_panel
    values = next(iter(table.axes.values()), [None])
    return line_panel if len(values) > 1 and all(map(is_number, values)) else dots_panel


def together(panels: list[Image.Image]) -> Image.Image:
    """Panels in rows, as many beside one another as fit, top left first, on white."""
    columns = min(max(WIDTH // max(panel.width for panel in panels), 1), len(panels))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = max(panel.width for panel in panels) * columns
    sheet = Image.new("RGB", (width, sum(max(panel.height for panel in row) + GAP for row in rows)), "white")
    y = 0
    for row in rows:
        for column, panel in enumerate(row):
            sheet.paste(panel, (column * width // columns, y))
        y += max(panel.height for panel in row) + GAP
    return sheet


def blank(width: int, height: int, title: str):
    panel = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(panel)
    pen.text((GAP, 6), title, fill=INK, font=font(15))
    return panel, pen


def label(value) -> str:
    text = " ".join(as_text(value).split()) or "(none)"
    return text if len(text) <= LABEL else text[: LABEL - 3] + "..."


def numbers_along(table: Table, quantity: str) -> list[tuple]:
    """(value on the axis, Number or None) along the only axis, or one entry for a table without axes."""
    axis = next(iter(table.axes), None)
    if axis is None:
        return [("all rows", table.points[0].numbers.get(quantity))]
    found = {json.dumps(point.at[axis]): point.numbers.get(quantity) for point in table.points}
    return [(value, found.get(json.dumps(value))) for value in table.axes[axis]]


class Scale:
    """Values to pixels, linear, or logarithmic where they are positive and span more than a factor of fifty."""

    def __init__(self, values: list[float], start: int, end: int, logarithmic: bool = False):
        self.logarithmic = logarithmic and min(values) > 0 and max(values) / min(values) > 50
        low, high = self._map(min(values)), self._map(max(values))
        if high - low < 1e-12 * max(abs(high), 1):
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.start, self.end = low, high, start, end

    def _map(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (self._map(value) - self.low) / (self.high - self.low)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the range."""
        step = nice((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, int(math.floor(self.high / step + 1e-9)) + 1)]


def nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def reach(entries: list[tuple]) -> list[float]:
    """Every value that must be visible: means with their spreads."""
    return [edge for _, number in entries if number for edge in (number.mean - (number.spread or 0), number.mean + (number.spread or 0))]


def line_panel(table: Table, quantity: str) -> Image.Image:
    """Means over an axis of numbers, joined by a line, with a bar of one spread."""
    panel, pen = blank(PANEL, HEIGHT, quantity)
    entries, axis = numbers_along(table, quantity), next(iter(table.axes))
    if not reach(entries):
        return nothing(panel, pen)
    left, bottom = 76, HEIGHT - 48
    across = Scale([value for value, _ in entries], left + 16, PANEL - 30, logarithmic=True)
    up = Scale(reach(entries), bottom - 10, TITLE + 12)
    for tick in up.ticks():
        pen.line((left, up.at(tick), PANEL - GAP, up.at(tick)), fill=GRID)
        pen.text((left - 6, up.at(tick)), f"{tick:.4g}", fill=FAINT, font=font(), anchor="rm")
    last = -math.inf
    for value, _ in entries:
        pen.line((across.at(value), bottom, across.at(value), bottom + 4), fill=INK)
        if across.at(value) - last > 44:
            last = across.at(value)
            pen.text((last, bottom + 6), f"{value:.4g}", fill=FAINT, font=font(), anchor="mt")
    pen.line((left, TITLE, left, bottom, PANEL - GAP, bottom), fill=INK)
    pen.text(((left + PANEL) // 2, HEIGHT - 8), axis + (" (logarithmic)" if across.logarithmic else ""), fill=INK, font=font(), anchor="ms")
    marks(pen, [(across.at(value), number) for value, number in entries if number], up)
    return panel


def marks(pen, places: list[tuple], up: Scale):
    """The line, its dots and bars."""
    pen.line([(x, up.at(number.mean)) for x, number in places], fill=DOT, width=2)
    for x, number in places:
        y = up.at(number.mean)
        if number.spread is not None:
            low, high = up.at(number.mean - number.spread), up.at(number.mean + number.spread)
            pen.line((x, low, x, high), fill=DOT)
            pen.line((x - 4, low, x + 4, low), fill=DOT)
            pen.line((x - 4, high, x + 4, high), fill=DOT)
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=DOT)


def nothing(panel: Image.Image, pen) -> Image.Image:
    pen.text((panel.width // 2, panel.height // 2), "no row has this", fill=FAINT, font=font(), anchor="mm")
    return panel


def dots_panel(table: Table, quantity: str) -> Image.Image:
    """A row of words and a dot with its spread for every value of the axis."""
    entries = numbers_along(table, quantity)[:MOST]
    axis = next(iter(table.axes), "")
    panel, pen = blank(PANEL, TITLE + ROW * len(entries) + 40, quantity + (f"  over  {axis}" if axis else ""))
    if not reach(entries):
        return nothing(panel, pen)
    words = max(pen.textlength(label(value), font=font()) for value, _ in entries) + 2 * GAP
    across, bottom = Scale(reach(entries), int(words) + 12, PANEL - 84), TITLE + ROW * len(entries) + 6
    for tick in across.ticks(4):
        pen.line((across.at(tick), TITLE, across.at(tick), bottom), fill=GRID)
        pen.text((across.at(tick), bottom + 4), f"{tick:.4g}", fill=FAINT, font=font(), anchor="mt")
    for index, (value, number) in enumerate(entries):
        y = TITLE + ROW * index + ROW // 2
        pen.text((GAP, y), label(value), fill=INK, font=font(), anchor="lm")
        dot(pen, across, y, number)
    return panel


def dot(pen, across: Scale, y: int, number):
    """One mean with its spread, and the mean in figures at the right."""
    if number is None:
        pen.text((PANEL - GAP, y), "failed", fill=FAINT, font=font(), anchor="rm")
        return
    if number.spread is not None:
        pen.line((across.at(number.mean - number.spread), y, across.at(number.mean + number.spread), y), fill=DOT)
    x = across.at(number.mean)
    pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=DOT)
    pen.text((PANEL - GAP, y), f"{number.mean:.4g}", fill=INK, font=font(), anchor="rm")


def heat_panel(table: Table, quantity: str) -> Image.Image:
    """The last axis to the right, all others downwards; colour and figures are means, the smaller figure is the spread."""
    *down, right = table.axes
    rows = list(itertools.product(*(table.axes[name] for name in down)))[:MOST]
    columns = table.axes[right][:MOST]
    found = {json.dumps([[point.at[name] for name in down], point.at[right]]): point.numbers.get(quantity) for point in table.points}
    names = [", ".join(label(value) for value in row) for row in rows]
    words = int(max(font().getlength(text) for text in [*names, ", ".join(down)])) + 2 * GAP
    panel, pen = blank(max(words + CELL * len(columns) + GAP, 300), HEAD + 2 * ROW * len(rows) + GAP, quantity)
    pen.text((words, TITLE), right, fill=INK, font=font())
    pen.text((GAP, HEAD - LINE - 3), ", ".join(down), fill=INK, font=font())
    shades = Scale([number.mean for number in found.values() if number] or [0.0], 0, 1)
    for column, value in enumerate(columns):
        pen.text((words + CELL * column + CELL // 2, HEAD - 3), label(value)[:13], fill=FAINT, font=font(), anchor="mb")
    for index, row in enumerate(rows):
        y = HEAD + 2 * ROW * index
        pen.text((GAP, y + ROW), names[index], fill=FAINT, font=font(), anchor="lm")
        for column, value in enumerate(columns):
            cell(pen, words + CELL * column, y, found.get(json.dumps([list(row), value])), shades)
    return panel


def cell(pen, x: int, y: int, number, shades: Scale):
    """One cell of a heat map; a point without the quantity is crossed out."""
    box = (x, y, x + CELL - 2, y + 2 * ROW - 2)
    if number is None:
        pen.rectangle(box, fill=GRID)
        pen.line((box[0] + 8, box[1] + 8, box[2] - 8, box[3] - 8), fill=FAINT)
        return
    part = shades.at(number.mean)
    pen.rectangle(box, fill=tuple(round(low + part * (high - low)) for low, high in zip(LOW, HIGH)))
    ink = "white" if part > 0.5 else INK
    middle = (x + CELL // 2, y + ROW - (8 if number.spread is not None else 0))
    pen.text(middle, f"{number.mean:.4g}", fill=ink, font=font(14), anchor="mm")
    if number.spread is not None:
        pen.text((middle[0], middle[1] + 18), f"± {number.spread:.2g}", fill=ink, font=font(11), anchor="mm")
