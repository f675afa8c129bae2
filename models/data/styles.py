"""What varies between procedural objects: named choices that a prompt can say, and small changes of proportion.

Objects stand in a canonical pose and one name looks nearly the same each time: azimuth and words decide the picture,
so the mean over all objects of one name is still crisp.
"""

from dataclasses import dataclass
from math import radians

import torch
from torch import Generator, Tensor

PALETTE = {  # sRGB, chosen to stay apart under shading
    "red": (0.84, 0.07, 0.10),
    "orange": (1.00, 0.50, 0.04),
    "yellow": (1.00, 0.87, 0.14),
    "green": (0.24, 0.70, 0.26),
    "turquoise": (0.10, 0.76, 0.74),
    "blue": (0.16, 0.32, 0.90),
    "purple": (0.50, 0.18, 0.74),
    "pink": (1.00, 0.52, 0.72),
    "white": (0.97, 0.96, 0.93),
    "brown": (0.36, 0.21, 0.13),
}
FLOWER_COLOURS = ("red", "orange", "yellow", "turquoise", "blue", "purple", "pink", "white")
FLOWERS = ("rose", "daisy", "tulip", "sunflower")

SPECIES = {
    "flower blooming": FLOWERS,
    "flower withering": FLOWERS,
    "plant sprouting": ("basil", "bean", "fern", "tomato"),
    "candle burning": ("pillar", "taper", "twisted", "saucer"),
    "ice cream melting": ("scoop", "double scoop", "cherry", "popsicle"),
    "banana rotting": ("single", "pair", "bunch"),
    "bread baking": ("loaf", "round", "baguette", "tin"),
}
COLOURS = {
    "flower blooming": FLOWER_COLOURS,
    "flower withering": FLOWER_COLOURS,
    "plant sprouting": ("red", "orange", "yellow", "turquoise", "blue", "purple", "pink", "white", "brown"),
    "candle burning": tuple(PALETTE),
    "ice cream melting": tuple(PALETTE),
    "banana rotting": ("yellow", "green", "red"),
    "bread baking": ("golden", "brown", "dark"),
}
PHENOMENA = tuple(SPECIES)

HELD_OUT_PAIRS = {  # (species, colour) that training never draws
    "flower blooming": (("rose", "blue"), ("daisy", "orange"), ("tulip", "turquoise"), ("sunflower", "pink")),
    "flower withering": (("rose", "orange"), ("daisy", "red"), ("tulip", "blue"), ("sunflower", "purple")),
    "plant sprouting": (("basil", "blue"), ("bean", "red"), ("fern", "yellow"), ("tomato", "purple")),
    "candle burning": (("pillar", "orange"), ("taper", "green"), ("twisted", "purple"), ("saucer", "pink")),
    "ice cream melting": (("scoop", "blue"), ("double scoop", "orange"), ("cherry", "green"), ("popsicle", "brown")),
    "banana rotting": (("pair", "green"),),
    "bread baking": (("round", "dark"),),
}

JITTERS = 24
YAW = radians(8)
SPREAD = 0.06


@dataclass(frozen=True)
class ObjectStyle:
    """One procedural object. phenomenon, species and colour are names of the tables above.

    height, width, size: proportions, 1 +- 6 %. yaw: turn from the canonical pose, radians, +- 8 degrees. pace: exponent of
    time, 1 +- 5 %. shade: brightness of the colour, 1 +- 4 %. jitter: numbers in [-1, 1] for the small parts.
    """

    phenomenon: str
    species: str
    colour: str
    height: float = 1.0
    width: float = 1.0
    size: float = 1.0
    yaw: float = 0.0
    pace: float = 1.0
    shade: float = 1.0
    jitter: tuple[float, ...] = (0.0,) * JITTERS

    def rgb(self) -> Tensor:
        """The colour word in sRGB, (3,)."""
        return (torch.tensor(PALETTE[self.colour]) * self.shade).clamp(0, 1)

    def wobble(self, start: int, count: int, scale: float) -> Tensor:
        """`count` of the style's small random numbers, (count,) in [-scale, scale]."""
        index = torch.arange(start, start + count) % JITTERS
        return torch.tensor(self.jitter)[index] * scale


def pairs(phenomenon: str, split: str = "train") -> tuple[tuple[str, str], ...]:
    """The (species, colour) pairs of a split: "train", "held_out" or "all"."""
    held_out = HELD_OUT_PAIRS[phenomenon]
    everything = tuple((s, c) for s in SPECIES[phenomenon] for c in COLOURS[phenomenon])
    if split == "all":
        return everything
    return held_out if split == "held_out" else tuple(pair for pair in everything if pair not in held_out)


def sample_style(
    phenomenon: str, generator: Generator, species: str | None = None, colour: str | None = None, split: str = "train"
) -> ObjectStyle:
    """Draw an object; deterministic in the generator. split "train" leaves out HELD_OUT_PAIRS, "held_out" draws only them.

    Raises ValueError when no pair of the split has the asked species and colour.
    """
    if phenomenon not in SPECIES:
        raise ValueError(f"Unknown phenomenon {phenomenon!r}: choose one of {', '.join(PHENOMENA)}.")
    species_left = [p for p in pairs(phenomenon, split) if species in (None, p[0]) and colour in (None, p[1])]
    if not species_left:
        raise ValueError(
            f"No {phenomenon!r} object is a {colour or 'any colour'} {species or 'any species'} in split {split!r}: "
            f"species are {', '.join(SPECIES[phenomenon])}; colours are {', '.join(COLOURS[phenomenon])}."
        )
    numbers = torch.rand(7 + JITTERS, generator=generator)
    pick = species_left[min(int(numbers[0] * len(species_left)), len(species_left) - 1)]
    signed = (numbers[1:] * 2 - 1).tolist()
    return ObjectStyle(
        phenomenon,
        *pick,
        height=1 + SPREAD * signed[0],
        width=1 + SPREAD * signed[1],
        size=1 + SPREAD * signed[2],
        yaw=YAW * signed[3],
        pace=1 + 0.05 * signed[4],
        shade=1 + 0.04 * signed[5],
        jitter=tuple(signed[6:]),
    )
