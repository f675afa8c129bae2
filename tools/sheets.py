"""Sheets of pictures: rows and columns of premultiplied RGBA over white, with words at the edges."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

LINE, WORDS, DARK = 13, 5, (60, 60, 60)  # height of a line of words, gap beside them, colour


def tile(pictures: Tensor, size: int) -> Image.Image:
    """One picture (4, H, W) over white, size x size."""
    colours = (pictures[:3] + 1 - pictures[3:]).clamp(0, 1).movedim(0, -1)
    image = Image.fromarray((colours * 255).round().byte().numpy())
    return image.resize((size, size), Image.NEAREST if size % image.width == 0 else Image.BICUBIC)


def grid(rows: list[list[Tensor | None]], size: int, left: list[str] | None = None, top: list[str] | None = None) -> Image.Image:
    """Rows of pictures (4, H, W); None is a bar between groups. `left` names the rows, `top` the columns."""
    margin = 0 if left is None else max(6 * max(map(len, left)) + 2 * WORDS, 1)
    head = 0 if top is None else LINE + WORDS
    widths = [max(6 if entry is None else size for entry in column) for column in zip(*rows)]
    image = Image.new("RGB", (margin + sum(widths), head + size * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        y, x = head + number * size, margin
        if left:
            draw.text((WORDS, y + size // 2 - LINE // 2), left[number], fill=DARK)
        for entry, width in zip(row, widths):
            if entry is None:
                draw.rectangle((x, y, x + width - 1, y + size - 1), fill=(0, 0, 0))
            else:
                image.paste(tile(entry, size), (x, y))
            x += width
    for number, words in enumerate(top or ()):
        draw.text((margin + sum(widths[:number]) + WORDS, 2), words, fill=DARK)
    return image


def below(*images: Image.Image, gap: int = 12) -> Image.Image:
    """Images one below the other on white."""
    whole = Image.new("RGB", (max(image.width for image in images), sum(image.height + gap for image in images) - gap), "white")
    y = 0
    for image in images:
        whole.paste(image, (0, y))
        y += image.height + gap
    return whole


def write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def rows_of(pictures: Tensor) -> list[list[Tensor]]:
    """(R, C, 4, H, W) as rows for `grid`."""
    return [list(row) for row in torch.unbind(pictures)]
