"""Every field, renderer, guidance and prior of the pack, found in its node descriptions, fed, and joined to tiny optimisations.

A new node joins by itself: widgets take their defaults (`SMALL` makes them small), sockets come from `Graph.supply`. What cannot
be fed raises `CannotFeed` with what is missing here, so that no node is left out in silence.
"""

import itertools
from dataclasses import dataclass

import demo_workflows as demo

OUT_OF_A_FILE = "bloom4d/fields/matrix_00001_.safetensors"
SMALL = {
    "Bloom4DHashField": {"size": "custom", "size.static_levels": 2, "size.static_finest": 16, "size.dynamic_levels": 2, "size.dynamic_finest": 16, "size.table": 10, "size.hidden": 8},
    "Bloom4DSingleGridField": {"size": "custom", "size.levels": 2, "size.finest": 16, "size.table": 10, "size.hidden": 8},
    "Bloom4DHexPlaneField": {"size": "custom", "size.channels": 4, "size.resolution": 6, "size.time_nodes": 3, "size.hidden": 8},
    "Bloom4DDeformableField": {"size": "custom", "size.levels": 2, "size.finest": 8, "size.table": 10, "size.hidden": 8, "size.layers": 1},
    "Bloom4DLoadField": {"path": OUT_OF_A_FILE},
    "Bloom4DGaussianField": {"count": 100, "motion": "custom", "motion.channels": 4, "motion.resolution": 4, "motion.time_nodes": 3, "motion.hidden": 8},
    "Bloom4DGaussiansFromOrbitVideo": {"coarse": 1, "fine": 1, "initial_gaussians": 100, "max_gaussians": 100, "start": "random", "planes": "custom", "planes.channels": 4, "planes.resolution": 4, "planes.levels": 1, "planes.time_nodes": 3, "preview_interval": 0},
    "Bloom4DToyMotion": {"parts": 8, "times": 3, "views": 2, "size": 16},
    "Bloom4DVolumeRenderer": {"samples": 8, "occupancy_resolution": 8, "time_slabs": 2},
    "Bloom4DEmbeddedPriorLoader": {"prior": demo.PRIOR},
    "Bloom4DMVDreamLoader": {"checkpoint": "tiny_mvdream.safetensors"},
    "Bloom4DZero123Loader": {"checkpoint": "tiny_zero123.safetensors"},
    "Bloom4DZeroscopeLoader": {"model": "zeroscope_v2_576w/unet/diffusion_pytorch_model.safetensors"},
    "Bloom4DVideoSDSGuidance": {"cameras": {"views": 1, "frames": 3}},
    "Bloom4DVideoRefinementLoss": {"cameras": {"views": 1, "frames": 3}, "every": 1, "begin": 0, "denoising_steps": 2},
}
"""Values that make a node small or name its file; "cameras": of the sampler in front of it."""
OF_GAUSSIANS = {"Bloom4DGaussianField", "Bloom4DGaussiansFromOrbitVideo", "Bloom4DSplatRenderer"}
"""Fields that only these renderers draw, and renderers that draw nothing else; all others hold a density."""
GUIDANCE_SIZE = {"width": 16, "height": 16, "model_size": 64}
STOCK_PRIORS = {"Stable Diffusion 2.1": ("CheckpointLoaderSimple", {"ckpt_name": "tiny_sd21.safetensors"})}
"""The host's own loaders that stand for real models, with the synthetic file that they read."""
KIN = {"MVDream Loader": "Stable Diffusion 2.1", "Zeroscope Loader": "Stable Diffusion 2.1"}
"""Loaders whose VAE and CLIP are those of another one: they may be exchanged."""
VAE_KIN = {**KIN, "Zero123 Loader": "Stable Diffusion 2.1"}
"""The same for the VAE alone: Zero123 looks at pictures and reads no text."""
VIEWS = 4
"""Of the cameras in front of a guidance node, unless `SMALL` says: MVDream takes four at once."""
ELSEWHERE = {"Bloom4DDeepFloydLoader": "its text encoder T5-XXL has no tiny file; tests/nodes/test_foreign.py runs the rest"}
"""Loaders that are not in the matrix, each with the reason."""


class CannotFeed(AssertionError):
    """The generator does not know what a node needs."""


@dataclass(frozen=True)
class Prior:
    """Which loader the MODEL, the VAE and the CLIP come from; one loader for all three belongs together."""

    model: str
    vae: str
    clip: str

    @property
    def belongs_together(self) -> bool:
        same = lambda kin, one, other: kin.get(one, one) == kin.get(other, other)  # noqa: E731
        return same(VAE_KIN, self.model, self.vae) and same(KIN, self.model, self.clip)

    @property
    def is_whole(self) -> bool:
        """Whether one loader gave all three."""
        return self.model == self.vae == self.clip

    def __str__(self) -> str:
        foreign = [f"{part} of {loader}" for part, loader in (("VAE", self.vae), ("CLIP", self.clip)) if loader != self.model]
        return self.model if not foreign else f"{self.model} with the {' and the '.join(foreign)}"


@dataclass(frozen=True)
class Pair:
    """One point of the matrix: node classes, and a prior."""

    field: str
    renderer: str
    guidance: str
    prior: Prior

    @property
    def fits(self) -> bool:
        """Whether it should run; otherwise it must refuse."""
        return self.prior.belongs_together and (self.field in OF_GAUSSIANS) == (self.renderer in OF_GAUSSIANS)

    def __str__(self) -> str:
        return f"{self.field} x {self.renderer} x {self.guidance} x {self.prior}"


def inputs(info: dict, group: str = "required") -> dict:
    return info["input"].get(group) or {}


def kinds(info: dict) -> set:
    return {kind for group in ("required", "optional") for kind, *_ in inputs(info, group).values() if isinstance(kind, str)}


def sources(infos: dict, kind: str) -> list[str]:
    """Classes that make a `kind` out of no `kind`, and fields over another field."""
    return sorted(name for name, info in infos.items() if kind in info["output"] and (kind not in kinds(info) or info["category"] == "4d/field"))


def priors(infos: dict) -> dict[str, tuple]:
    """Every loader by the name of its prior: ours, found by what they make, and stock ones."""
    ours = {infos[name]["display_name"]: (name, SMALL.get(name, {})) for name in sources(infos, "MODEL") if name not in ELSEWHERE}
    return {**ours, **STOCK_PRIORS}


def combinations(loaders: dict) -> list[Prior]:
    """Every prior whole, and every MODEL with the VAE or the CLIP of another."""
    found = [Prior(name, name, name) for name in loaders]
    for one, other in itertools.permutations(loaders, 2):
        found += [Prior(one, other, one), Prior(one, one, other)]
    return found


def matrix(infos: dict) -> list[Pair]:
    """Every field x renderer x guidance x whole prior of these node descriptions, and every mixed prior with each guidance that asks one.

    Whether a VAE or a CLIP fits has nothing to do with the scene, so mixed priors get one field and renderer that go together.
    """
    fields, renderers, guidances = ([*sources(infos, kind)] for kind in ("FIELD_4D", "RENDERER_4D", "GUIDANCE_4D"))
    assert fields and renderers and guidances, "the pack has lost its fields, renderers or guidance"
    found = combinations(priors(infos))
    whole = [Pair(*classes, prior) for prior in found if prior.is_whole for classes in itertools.product(fields, renderers, guidances)]
    scene = next((pair.field, pair.renderer) for pair in whole if pair.fits)
    asking = [guidance for guidance in guidances if "MODEL" in kinds(infos[guidance])]
    return whole + [Pair(*scene, guidance, prior) for prior in found if not prior.is_whole for guidance in asking]


class Graph:
    """A prompt under construction; equal nodes are one."""

    def __init__(self, infos: dict):
        self.infos, self.loaders, self.prompt = infos, priors(infos), {}

    def add(self, class_type: str, values: dict) -> str:
        node = {"class_type": class_type, "inputs": values}
        known = next((name for name, other in self.prompt.items() if {key: other[key] for key in node} == node), None)
        if known is not None:
            return known
        name = str(len(self.prompt) + 1)
        self.prompt[name] = {**node, "_meta": {"title": f"{class_type} {name}"}}
        return name

    def link(self, node: str, kind: str) -> list:
        """The first output of this kind."""
        outputs = self.infos[self.prompt[node]["class_type"]]["output"]
        if kind not in outputs:
            raise CannotFeed(f"{self.prompt[node]['class_type']} makes no {kind}: the swap matrix needs MODEL, VAE and CLIP of one loader. Teach tests/host/swap_matrix.py where it comes from.")
        return [node, outputs.index(kind)]

    def feed(self, class_type: str, prior: Prior | None = None) -> str:
        """A node of this class with small values and everything that it requires."""
        small = dict(SMALL.get(class_type, {}))
        sampler = small.pop("cameras", {"views": VIEWS, "frames": 1})
        values = {}
        for name, (kind, *options) in inputs(self.infos[class_type]).items():
            values |= self._value(class_type, name, kind, options[0] if options else {}, small, prior, sampler)
        return self.add(class_type, values)

    def _value(self, class_type, name, kind, options, small, prior, sampler) -> dict:
        if kind == "COMFY_DYNAMICCOMBO_V3":
            return self._choice(class_type, name, options, small, prior, sampler)
        if name in small:
            return {name: small[name]}
        if class_type in sources(self.infos, "GUIDANCE_4D") and name in GUIDANCE_SIZE:
            return {name: GUIDANCE_SIZE[name]}
        if "default" in options and not options.get("forceInput"):
            return {name: options["default"]}
        if kind == "COMBO" or isinstance(kind, list):
            listed = options.get("options") or (kind if isinstance(kind, list) else [])
            if listed:
                return {name: listed[0]}
        return {name: self.supply(class_type, name, kind, prior, sampler)}

    def _choice(self, class_type, name, options, small, prior, sampler) -> dict:
        """A dynamic combo: the chosen option (the first unless `SMALL` says) and what it asks in turn."""
        key = small.get(name, options["options"][0]["key"])
        chosen = next(option for option in options["options"] if option["key"] == key)
        values = {name: key}
        for child, (kind, *rest) in inputs({"input": chosen["inputs"]}).items():
            values |= self._value(class_type, f"{name}.{child}", kind, rest[0] if rest else {}, small, prior, sampler)
        return values

    def supply(self, class_type: str, name: str, kind: str, prior: Prior | None, sampler: dict) -> list:
        """A link for a socket; CannotFeed for a kind that nothing here makes."""
        if prior is not None and kind == "MODEL":
            return self.link(self.loader(prior.model), "MODEL")
        if prior is not None and kind == "VAE":
            return self.link(self.loader(prior.vae), "VAE")
        if prior is not None and kind == "CONDITIONING" and "CLIP" not in self.infos[self.loaders[prior.clip][0]]["output"]:
            return [self.looks(prior.clip), 0 if name == "positive" else 1]
        if prior is not None and kind == "CONDITIONING":
            text = self.add("CLIPTextEncode", {"clip": self.link(self.loader(prior.clip), "CLIP"), "text": "a red candle burning" if name == "positive" else ""})
            return [text, 0]
        if kind == "FIELD_4D":
            return self.link(self.feed("Bloom4DHashField"), kind)
        if class_type == "Bloom4DReferenceViewLoss" and kind == "IMAGE":
            return [self.cut_out(), 0]
        if kind == "IMAGE" or kind == "CAMERAS_4D" and "IMAGE" in kinds(self.infos[class_type]):  # pictures with their cameras
            return self.link(self.feed("Bloom4DToyMotion"), kind)
        if kind == "CAMERAS_4D":
            defaults = {key: rest[0]["default"] for key, (_, *rest) in inputs(self.infos["Bloom4DCameraSampler"]).items()}
            return [self.add("Bloom4DCameraSampler", {**defaults, **sampler}), 0]
        raise CannotFeed(f'{class_type} needs "{name}" ({kind}), and the swap matrix does not know where to get one: teach Graph.supply or SMALL in tests/host/swap_matrix.py.')

    def cut_out(self) -> str:
        """One picture of an object with its alpha."""
        toy = self.feed("Bloom4DToyMotion")
        behind = self.add("InvertMask", {"mask": self.link(toy, "MASK")})  # the host's join takes 1 - alpha
        joined = self.add("JoinImageWithAlpha", {"image": self.link(toy, "IMAGE"), "alpha": [behind, 0]})
        return self.add("ImageFromBatch", {"image": [joined, 0], "batch_index": 0, "length": 1})

    def looks(self, name: str) -> str:
        """The conditioning of a prior that looks at a picture in the place of reading."""
        loader = self.loader(name)
        pose = {key: rest[0]["default"] for key, (_, *rest) in inputs(self.infos["Bloom4DZero123Condition"]).items() if "default" in rest[0]}
        return self.add("Bloom4DZero123Condition", {**pose, "clip_vision": self.link(loader, "CLIP_VISION"), "vae": self.link(loader, "VAE"), "image": [self.cut_out(), 0]})

    def loader(self, name: str) -> str:
        class_type, values = self.loaders[name]
        return self.add(class_type, {**self.prompt[self.feed(class_type)]["inputs"], **values})

    def optimise(self, pairs: list[Pair]) -> str:
        """One step with a term for every pair (they share field, renderer and prior), saved; the optimiser's id."""
        first, = {(pair.field, pair.renderer, pair.prior) for pair in pairs}
        terms = {f"terms.term{number}": [self.feed(pair.guidance, pair.prior), 0] for number, pair in enumerate(pairs)}
        stage = self.add("Bloom4DStage", {**self._defaults("Bloom4DStage"), **terms, "rate_dynamic": 0.01})
        field, renderer = self.feed(first[0]), self.feed(first[1])
        values = {**self._defaults("Bloom4DHybridSDSOptimizer"), "steps": 1, "filename_prefix": "matrix", "preview_interval": 0, "checkpoint_interval": 0}
        links = {"field": self.link(field, "FIELD_4D"), "stage": [stage, 0], "renderer": self.link(renderer, "RENDERER_4D")}
        optimiser = self.add("Bloom4DHybridSDSOptimizer", {**values, **links})
        self.add("Bloom4DSaveField", {"field": [optimiser, 0], "filename_prefix": "bloom4d/fields/matrix_result"})
        return optimiser

    def _defaults(self, class_type: str) -> dict:
        """Every widget's default."""
        found = {}
        for name, (kind, *rest) in inputs(self.infos[class_type]).items():
            options = rest[0] if rest else {}
            if "default" in options:
                found[name] = options["default"]
            elif options.get("options"):
                found[name] = options["options"][0]
        return found
