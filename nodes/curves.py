"""Training curves as a picture and as JSON."""

import json
import math
from collections.abc import Sequence

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..models.optimize.advice import advise
from ..models.optimize.history import StageHistory

PANELS = (
    ("loss", "loss", True),
    ("level", "noise level t", False),
    ("gradient_norm", "gradient norm", True),
    ("opacity", "opacity", False),
    ("motion", "motion", False),
    ("rate", "learning rates", True),
    ("moving", "object: motion, flicker", True),
    ("faces", "object: multi-face", False),
    ("filled", "object: filled, change", False),
)
"""Column, title, logarithmic axis."""
SEEN = {"moving": ("motion", "flicker"), "faces": ("faces",), "filled": ("filled", "change")}
"""The panels of what was seen from all sides at intervals, and their lines."""
COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194), (23, 190, 207))
WIDTH, HEIGHT, MARGIN, HEAD = 420, 220, 48, 20
SMOOTHED = 12  # the strong line is a mean over a twelfth of a stage's points, the faint one is raw


def curves_json(histories: tuple[StageHistory, ...]) -> str:
    """Every stage's rows by term, learning rates by role, skipped steps, looks from all sides and their advice; NaN is null."""
    return json.dumps({"stages": [_stage_values(history) for history in histories]})


def _stage_values(history: StageHistory) -> dict:
    rows = {name: [_clean(value) for value in column] for name, column in history.columns.items() if name != "term"}
    owners = [int(term) for term in history.columns["term"]]
    terms = {
        name: {column: [value for value, owner in zip(values, owners) if owner == index] for column, values in rows.items()}
        for index, name in enumerate(history.terms)
    }
    steps = sorted({int(step) for step in history.columns["step"]})
    rates = {role: [history.learning_rates(step)[role] for step in steps] for role in history.roles}
    return {
        "name": history.name,
        "steps": history.steps,
        "seed": history.seed,
        "terms": terms,
        "learning_rates": {"step": steps, **rates},
        "skipped": history.skipped,
        "object": {name: [_clean(value) for value in column] for name, column in history.watched.items()},
        "advice": [advice.text for advice in advise(history)],
    }


def _clean(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def draw_curves(histories: tuple[StageHistory, ...]) -> Tensor:
    """All panels as one IMAGE (1, H, W, 3); stages follow one another along x, divided by grey lines."""
    columns = 3
    sheet = Image.new("RGB", (columns * WIDTH, -(-len(PANELS) // columns) * HEIGHT), "white")
    starts = _starts(histories)
    terms = list(dict.fromkeys(name for history in histories for name in history.terms))
    roles = list(dict.fromkeys(role for history in histories for role in history.roles))
    for index, (column, title, logarithmic) in enumerate(PANELS):
        labels = SEEN.get(column) or (roles if column == "rate" else terms)
        panel = _panel(_lines(histories, starts, column), title, logarithmic, starts, labels)
        sheet.paste(panel, (index % columns * WIDTH, index // columns * HEIGHT))
    return torch.from_numpy(numpy.asarray(sheet, dtype=numpy.float32) / 255.0)[None].clone()


def _starts(histories) -> list[int]:
    starts = [0]
    for history in histories:
        last = max(history.columns["step"], default=-1.0)
        starts.append(starts[-1] + int(last) + 1)
    return starts


def _lines(histories, starts, column: str) -> dict[str, list[list[tuple[float, float]]]]:
    """Label -> one list of points per stage."""
    lines = {}
    for history, start in zip(histories, starts):
        if column == "rate":
            pieces = _rate_pieces(history, start)
        elif column in SEEN:
            pieces = {name: _points(history.watched["step"], history.watched[name], start) for name in SEEN[column]}
        else:
            pieces = _term_pieces(history, start, column)
        for label, points in pieces.items():
            if points:
                lines.setdefault(label, []).append(points)
    return lines


def _rate_pieces(history: StageHistory, start: int) -> dict[str, list[tuple[float, float]]]:
    steps = sorted({int(step) for step in history.columns["step"]})
    return {role: [(start + step, history.learning_rates(step)[role]) for step in steps] for role in history.roles}


def _points(steps: list[float], values: list[float], start: int) -> list[tuple[float, float]]:
    return [(start + step, value) for step, value in zip(steps, values) if math.isfinite(value)]


def _term_pieces(history: StageHistory, start: int, column: str) -> dict[str, list[tuple[float, float]]]:
    pieces = {name: [] for name in history.terms}
    for step, term, value in zip(history.columns["step"], history.columns["term"], history.columns[column]):
        if math.isfinite(value):
            pieces[history.terms[int(term)]].append((start + step, value))
    return pieces


def _panel(lines, title: str, logarithmic: bool, starts: list[int], labels: Sequence[str]) -> Image.Image:
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=11)
    draw.text((MARGIN, 4), title, fill="black", font=font)
    values = [value for pieces in lines.values() for points in pieces for _, value in points if value > 0 or not logarithmic]
    if not values:
        draw.text((WIDTH // 2 - 24, HEIGHT // 2), "no data", fill="gray", font=font)
        return panel
    place = _Axes(values, logarithmic, max(starts[-1] - 1, 1))
    for start in starts[1:-1]:
        draw.line([place.at(start, None), (place.at(start, None)[0], HEAD)], fill=(210, 210, 210))
    place.frame(draw, font)
    for index, (label, pieces) in enumerate(lines.items()):
        colour = COLOURS[list(labels).index(label) % len(COLOURS)]
        for points in pieces:
            _curve(draw, place, points, colour)
        draw.text((MARGIN + 120 + 72 * (index % 4), 4 + 12 * (index // 4)), label[:12], fill=colour, font=font)
    return panel


def _curve(draw, place: "_Axes", points, colour) -> None:
    pale = tuple((channel + 3 * 255) // 4 for channel in colour)
    for line, fill, width in ((points, pale, 1), (_smooth(points), colour, 2)):
        pixels = [place.at(step, value) for step, value in line if place.shows(value)]
        if len(pixels) > 1:
            draw.line(pixels, fill=fill, width=width)
        elif pixels:
            draw.ellipse([pixels[0][0] - 2, pixels[0][1] - 2, pixels[0][0] + 2, pixels[0][1] + 2], fill=fill)


def _smooth(points):
    """Centred moving mean; the window shrinks at both ends, so the ends do not lag."""
    values, reach = numpy.array([value for _, value in points]), len(points) // (2 * SMOOTHED)
    sums = numpy.concatenate([[0.0], values.cumsum()])
    smooth = []
    for index, (step, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        smooth.append((step, (sums[index + near + 1] - sums[index - near]) / (2 * near + 1)))
    return smooth


class _Axes:
    """Steps and values to pixels."""

    def __init__(self, values: list[float], logarithmic: bool, last: int):
        self.logarithmic, self.last = logarithmic, last
        low, high = min(values), max(values)
        if logarithmic and high / low < 1.05 or high - low < 1e-12:
            low, high = (low / 2, high * 2) if logarithmic else (low - 0.5, high + 0.5)
        self.low, self.high = low, high

    def shows(self, value: float) -> bool:
        return value > 0 or not self.logarithmic

    def at(self, step: float, value: float | None) -> tuple[float, float]:
        x = MARGIN + (WIDTH - MARGIN - 12) * step / self.last
        if value is None:
            return x, HEIGHT - 24
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        part = ((math.log(value) if self.logarithmic else value) - low) / (high - low)
        return x, HEIGHT - 24 - (HEIGHT - 24 - 2 * HEAD) * part

    def frame(self, draw, font) -> None:
        bottom = HEIGHT - 24
        draw.line([(MARGIN, HEAD), (MARGIN, bottom), (WIDTH - 12, bottom)], fill="black")
        draw.text((2, 2 * HEAD - 6), f"{self.high:.3g}", fill="black", font=font)
        draw.text((2, bottom - 8), f"{self.low:.3g}", fill="black", font=font)
        draw.text((MARGIN, bottom + 6), "0", fill="black", font=font)
        draw.text((WIDTH - 60, bottom + 6), f"step {self.last}", fill="black", font=font)
