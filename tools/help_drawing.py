"""Small labelled pictures for help pages: strips of renders, and cameras seen from above."""

import math

import torch
from PIL import Image, ImageDraw, ImageFont

WIDTH = 440  # pixels: twice the panel that shows help, so that letters stay readable there
MARGIN, LABEL = 4, 22  # pixels around and above things; size of the letters
INK, PAPER, PALE = (40, 40, 40), (255, 255, 255), (190, 190, 190)


def font(size: int = LABEL):
    return ImageFont.load_default(size)


def tile(picture: torch.Tensor, side: int) -> Image.Image:
    """A picture (H, W, 3) in [0, 1] as a square of `side` pixels."""
    values = (picture[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy()
    return Image.fromarray(values).resize((side, side), Image.LANCZOS)


def strips(rows: list[tuple[str, torch.Tensor]]) -> Image.Image:
    """Rows of pictures (N, H, W, 3), each below its label; the longest row fills the width."""
    columns = max(len(pictures) for _, pictures in rows)
    side = (WIDTH - MARGIN) // columns - MARGIN
    high = LABEL + 2 * MARGIN + side
    sheet = Image.new("RGB", (WIDTH, len(rows) * high + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (label, pictures) in enumerate(rows):
        draw.text((MARGIN, row * high), label, INK, font())
        for column, picture in enumerate(pictures):
            sheet.paste(tile(picture, side), (MARGIN + column * (side + MARGIN), row * high + LABEL + 2 * MARGIN))
    return sheet


def grid(cells: list[tuple[str, Image.Image]], columns: int = 2) -> Image.Image:
    """Labelled drawings of one size side by side."""
    wide, high = WIDTH // columns, cells[0][1].height + LABEL + 2 * MARGIN
    sheet = Image.new("RGB", (WIDTH, math.ceil(len(cells) / columns) * high + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (label, picture) in enumerate(cells):
        left, top = MARGIN + place % columns * wide, MARGIN + place // columns * high
        draw.text((left, top), label, INK, font())
        sheet.paste(picture, (left, top + LABEL + MARGIN))
    return sheet


def hue(share: float) -> tuple[int, int, int]:
    """From blue at 0 over green to red at 1."""
    stops = ((45, 90, 220), (40, 170, 120), (235, 170, 40), (220, 50, 50))
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    return tuple(round(a + (b - a) * (place - low)) for a, b in zip(stops[low], stops[low + 1]))


def plan(poses: torch.Tensor, shares: list[float], side: int = 210, reach: float = 3.6) -> Image.Image:
    """Cameras (N, 4, 4) seen from above, the object's front towards the bottom; each has the colour of its share in [0, 1]."""
    picture = Image.new("RGB", (side * 3, side * 3), PAPER)
    draw, scale, centre = ImageDraw.Draw(picture), 1.5 * side / reach, 1.5 * side

    def at(point) -> tuple[float, float]:
        return centre + float(point[0]) * scale, centre + float(point[2]) * scale

    radius = scale * 0.8
    draw.ellipse((centre - radius, centre - radius, centre + radius, centre + radius), fill=(238, 238, 238), outline=PALE, width=3)
    draw.polygon([at((-0.2, 0, 0.78)), at((0.2, 0, 0.78)), at((0, 0, 1.1))], fill=PALE)  # the front
    for pose, share in zip(poses, shares):
        place, back, right = pose[:3, 3], pose[:3, 2], pose[:3, 0]
        tip, ends = place, [place - 0.6 * back + sign * 0.28 * right for sign in (-1, 1)]
        draw.polygon([at(tip), *map(at, ends)], fill=hue(share), outline=PAPER)
    return picture.resize((side, side), Image.LANCZOS)


def save(picture: Image.Image, path, most: int) -> int:
    """Write a JPEG of at most `most` bytes: the quality follows. Returns its size."""
    for quality in range(90, 30, -5):
        picture.convert("RGB").save(path, quality=quality, optimize=True)
        if path.stat().st_size <= most:
            break
    return path.stat().st_size
