"""Sentences about procedural objects: many wordings for training, other ones held out, and the way back to a phenomenon."""

import re
from dataclasses import dataclass
from math import degrees

import torch
from torch import Generator

from .styles import COLOURS, PHENOMENA, ObjectStyle


@dataclass(frozen=True)
class Words:
    """How people talk about a phenomenon.

    generic: nouns without a species. nouns: per species. verbs, held_out_verbs: what it does. stages: words for the
    begin, early, middle, late and end of it. keys: words that give the phenomenon away; actions: word beginnings that tell it
    from another one with the same keys. Held-out verbs that alone tell two phenomena apart are new combinations of trained
    words, since a text encoder taught from nothing knows no others.
    """

    generic: tuple[str, ...]
    nouns: dict[str, tuple[str, ...]]
    verbs: tuple[str, ...]
    held_out_verbs: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...]
    actions: tuple[str, ...]


FLOWERS = {"rose": ("rose",), "daisy": ("daisy",), "tulip": ("tulip",), "sunflower": ("sunflower",)}
FLOWER_KEYS = ("flower", "rose", "daisy", "tulip", "sunflower", "blossom")
WORDS = {
    "flower blooming": Words(
        ("flower", "blossom"), FLOWERS,
        ("blooming", "opening", "unfolding its petals", "coming into bloom", "that opens its petals", "in bloom"),
        ("bursting into bloom", "unfolding and opening", "spreading its petals"),
        (("a closed bud", "still a bud"), ("starting to open", "barely open"), ("half open", "opening"), ("almost open", "nearly open"), ("fully open", "in full bloom")),
        FLOWER_KEYS, (),
    ),
    "flower withering": Words(
        ("flower", "cut flower", "flower in a vase"),
        {name: (name, f"{name} in a vase", f"cut {name}") for name in FLOWERS},
        ("withering", "wilting", "dying", "fading", "that hangs its head", "drying out"),
        ("drooping and drying out", "wilting away", "hanging limp and dying"),
        (("fresh", "still fresh"), ("starting to droop", "getting limp"), ("half withered", "drooping"), ("mostly withered", "brown and limp"), ("completely withered", "dead and brown")),
        FLOWER_KEYS, ("wither", "wilt", "dying", "dies", "fad", "droop", "dry", "dead", "losing", "hangs", "limp"),
    ),
    "plant sprouting": Words(
        ("plant", "seedling", "potted plant"),
        {"basil": ("basil plant", "basil"), "bean": ("bean plant", "bean"), "fern": ("fern",), "tomato": ("tomato plant", "tomato")},
        ("sprouting", "growing", "germinating", "growing from a seed", "coming up", "shooting up"),
        ("emerging from the soil", "that grows up", "growing taller"),
        (("bare soil", "just planted"), ("a small sprout", "just sprouted"), ("half grown", "with its first leaves"), ("almost full-grown", "with many leaves"), ("full-grown", "fully grown")),
        ("plant", "seed", "basil", "bean", "fern", "tomato", "sprout"), (),
    ),
    "candle burning": Words(
        ("candle",),
        {"pillar": ("pillar candle", "thick candle"), "taper": ("taper candle", "candle in a candlestick"), "twisted": ("twisted candle", "spiral candle"), "saucer": ("candle in a holder with a handle", "candle on a saucer")},
        ("burning", "burning down", "melting down", "with a flame", "that burns down", "dripping wax"),
        ("glowing and getting shorter", "being used up", "that slowly burns away"),
        (("freshly lit", "new and tall"), ("a little burnt", "burning for a while"), ("half burnt", "half gone"), ("mostly burnt", "short"), ("burnt down", "almost gone")),
        ("candle", "wax", "taper"), (),
    ),
    "ice cream melting": Words(
        ("ice cream", "ice cream cone"),
        {"scoop": ("ice cream cone", "scoop of ice cream", "ice cream with one scoop"), "double scoop": ("ice cream with two scoops", "double scoop of ice cream"), "cherry": ("ice cream with a cherry", "ice cream with a cherry on top"), "popsicle": ("popsicle", "ice lolly")},
        ("melting", "melting away", "dripping", "thawing", "that melts", "melting in the sun"),
        ("turning into a puddle", "that drips and sags", "running down in the heat"),
        (("frozen", "still solid"), ("starting to melt", "with a first drip"), ("half melted", "dripping"), ("mostly melted", "with a puddle"), ("completely melted", "melted in a puddle")),
        ("ice cream", "icecream", "popsicle", "ice lolly", "scoop", "gelato", "sundae"), (),
    ),
    "banana rotting": Words(
        ("banana",),
        {"single": ("banana",), "pair": ("pair of bananas", "two bananas"), "bunch": ("bunch of bananas",)},
        ("rotting", "going bad", "ripening and rotting", "turning brown", "that rots", "decaying"),
        ("spoiling", "that goes black", "getting overripe"),
        (("fresh", "just picked"), ("ripe", "with first spots"), ("spotted", "half rotten"), ("mostly brown", "brown"), ("completely rotten", "black")),
        ("banana",), (),
    ),
    "bread baking": Words(
        ("bread", "dough"),
        {"loaf": ("loaf of bread", "bread loaf"), "round": ("round bread", "round loaf"), "baguette": ("baguette",), "tin": ("bread in a tin", "loaf in a baking tin")},
        ("baking", "rising", "rising and baking", "browning in the oven", "that bakes", "being baked"),
        ("turning from dough to crust", "that rises in the oven", "getting a crust"),
        (("raw dough", "still dough"), ("starting to rise", "pale"), ("half baked", "half risen"), ("almost baked", "browning"), ("fully baked", "with a crust")),
        ("bread", "loaf", "baguette", "dough", "bun"), (),
    ),
}  # fmt: skip

FLAVOURS = {"brown": "chocolate", "pink": "strawberry", "white": "vanilla", "green": "pistachio", "yellow": "lemon", "blue": "blueberry"}
SHADES = {"turquoise": ("turquoise", "teal"), "purple": ("purple", "violet"), "golden": ("golden", "golden brown"), "dark": ("dark", "dark brown")}

TEMPLATES = (
    "{a} {verb}",
    "{a} {verb}",
    "a photo of {a} {verb}",
    "a picture of {a} {verb}",
    "a time-lapse of {a} {verb}",
    "time-lapse of {a} {verb}",
    "{a}, {verb}",
    "a video of {a} {verb}",
    "a 3D model of {a} {verb}",
    "here is {a} {verb}",
    "{n} {verb}",
)
HELD_OUT_TEMPLATES = (
    "an animation that shows {a} {verb}",
    "look at {a} {verb}",
    "{n} shown {verb}",
    "a render of {a} {verb} on white",
    "slow motion of {a} {verb}",
)
STAGE_TEMPLATES = ("{text}, {stage}", "{stage}: {text}", "{text} ({stage})")
VIEW_TEMPLATES = ("{text}, seen from {view}", "{text}, {view} view", "{text}, viewed from {view}")
VIEWS = (
    (("the front", "front"),),
    (("the front right", "front right"),),
    (("the right", "right side"), ("the right side", "side")),
    (("the back right", "back right"),),
    (("the back", "back"), ("behind", "rear")),
    (("the back left", "back left"),),
    (("the left", "left side"), ("the left side", "side")),
    (("the front left", "front left"),),
)
DEFAULT_PROMPTS = {
    "flower blooming": "a red rose blooming",
    "flower withering": "a red rose withering in a vase",
    "plant sprouting": "a basil plant sprouting in an orange pot",
    "candle burning": "a purple pillar candle burning",
    "ice cream melting": "a pink ice cream with a cherry melting",
    "banana rotting": "a yellow banana rotting",
    "bread baking": "a golden loaf of bread baking",
}


class _Dice:
    """Draws from an explicit generator."""

    def __init__(self, generator: Generator):
        self.generator = generator

    def chance(self, probability: float) -> bool:
        return bool(torch.rand(1, generator=self.generator) < probability)

    def pick(self, options):
        return options[int(torch.randint(len(options), (1,), generator=self.generator))]


def prompt(
    style: ObjectStyle,
    time: float | None = None,
    azimuth: float | None = None,
    elevation: float | None = None,
    generator: Generator | None = None,
    split: str = "train",
) -> str:
    """A sentence about the object. time in [0, 1] adds a stage word, azimuth and elevation (radians) a view word.

    Species and colour are each left out now and then (held-out sentences always say both). split "held_out" uses templates
    and verbs that "train" never uses. Deterministic in the generator; without one it is the plainest sentence.
    """
    words = WORDS[style.phenomenon]
    if generator is None:
        text = f"{article(noun := _noun(style, words.nouns[style.species][0], style.colour))} {noun} {words.verbs[0]}"
        return text if time is None else f"{text}, {words.stages[stage(time)][0]}"
    dice = _Dice(generator)
    held_out = split == "held_out"
    with_species = held_out or dice.chance(0.85)
    with_colour = held_out or dice.chance(0.85)
    name = dice.pick(words.nouns[style.species] if with_species else words.generic)
    noun = _noun(style, name, _colour_word(style, dice) if with_colour else None, dice)
    verb = dice.pick(words.held_out_verbs if held_out else words.verbs)
    template = dice.pick(HELD_OUT_TEMPLATES if held_out else TEMPLATES)
    whole = noun if noun.startswith("two ") else f"{article(noun)} {noun}"
    text = template.format(a=whole, n=noun, verb=verb)
    if time is not None:
        text = dice.pick(STAGE_TEMPLATES).format(text=text, stage=dice.pick(words.stages[stage(time)]))
    if azimuth is not None or elevation is not None:
        text = _with_view(text, azimuth, elevation, dice)
    return text


def stage(time: float) -> int:
    """Which of the five stages a time in [0, 1] belongs to; the first and last are half as long."""
    return min(int(time * 4 + 0.5), 4)


def article(noun: str) -> str:
    """The indefinite article of a noun."""
    return "an" if noun[0] in "aeiou" else "a"


def _colour_word(style: ObjectStyle, dice: _Dice) -> str:
    if style.phenomenon == "ice cream melting" and style.colour in FLAVOURS and dice.chance(0.35):
        return FLAVOURS[style.colour]
    return dice.pick(SHADES.get(style.colour, (style.colour,)))


def _noun(style: ObjectStyle, name: str, colour: str | None, dice: _Dice | None = None) -> str:
    """The noun with its colour: before it, behind it, or on the pot of a plant."""
    if colour is None:
        return name
    if style.phenomenon == "plant sprouting":
        pot = f"{article(colour)} {colour} {'pot' if dice is None else dice.pick(('pot', 'pot', 'flowerpot'))}"
        return f"{name} in {pot}"
    if dice is not None and dice.chance(0.12) and " " not in name:
        return f"{name} in {colour}"
    if name.startswith("two "):
        return f"two {colour} {name[4:]}"
    return f"{colour} {name}"


def _with_view(text: str, azimuth: float | None, elevation: float | None, dice: _Dice) -> str:
    if elevation is not None and elevation > 1.05:
        view = ("above", "top")
    elif azimuth is None:
        return text
    else:
        view = dice.pick(VIEWS[round(degrees(azimuth) / 45) % 8])
    template = dice.pick(VIEW_TEMPLATES)
    return template.format(text=text, view=view[1] if " view" in template and "{view} view" in template else view[0])


def default_prompt(phenomenon: str) -> str:
    """The sentence that stands for a phenomenon in nodes and tests."""
    return DEFAULT_PROMPTS[phenomenon]


def parse_phenomenon(text: str) -> str | None:
    """Which of the seven phenomena a prompt names, or None; a hint for messages, nothing depends on it."""
    text = " " + re.sub(r"[^a-z]+", " ", text.lower().replace("flowerpot", "pot").replace("flower pot", "pot")) + " "
    for phenomenon in ("ice cream melting", "candle burning", "banana rotting", "bread baking"):
        if any(f" {key}" in text for key in WORDS[phenomenon].keys):
            return phenomenon
    if any(f" {key}" in text for key in FLOWER_KEYS):
        withering = any(f" {action}" in text for action in WORDS["flower withering"].actions)
        return "flower withering" if withering else "flower blooming"
    if any(f" {key}" in text for key in WORDS["plant sprouting"].keys):
        return "plant sprouting"
    return None


def parse_names(text: str) -> tuple[str | None, str | None, str | None]:
    """Phenomenon, species and colour that a prompt names, None for what it leaves open.

    Species and colour may be a pair that does not exist ("a purple baguette baking"): see `styles.pairs`.
    """
    phenomenon = parse_phenomenon(text)
    if phenomenon is None:
        return None, None, None
    spoken = {colour: (colour, *SHADES.get(colour, ()), FLAVOURS.get(colour, colour)) for colour in COLOURS[phenomenon]}
    text = text.replace(" on white", "")  # the background
    colour = _longest_said(text, spoken)
    plain = " ".join(word for word in text.split() if colour is None or word not in " ".join(spoken[colour]).split())  # "two green bananas"
    return phenomenon, _longest_said(plain, WORDS[phenomenon].nouns), colour


def _longest_said(text: str, words: dict[str, tuple[str, ...]]) -> str | None:
    """The key whose longest word the text contains."""
    text = f" {text.lower()} "
    found = [(len(word), key) for key, names in words.items() for word in names if f" {word} " in text]
    return max(found)[1] if found else None


assert set(WORDS) == set(PHENOMENA)
