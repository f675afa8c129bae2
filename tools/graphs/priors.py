"""The models that judge: what guidance nodes of each role are connected to, from the embedded prior or from real models."""

from dataclasses import dataclass, field, replace

from .builder import Graph
from .model_files import MVDREAM, SD21, SD21_BASE, ZEROSCOPE

BLUE = "#3a5068"
SIDES = {"side": "positive", "front": "positive_front", "back": "positive_back", "overhead": "positive_overhead"}
MVDREAM_NEGATIVE = (
    "ugly, bad anatomy, blurry, pixelated obscure, unnatural colors, poor lighting, dull, and unclear, cropped, lowres, low quality, artifacts, duplicate, morbid, "
    "mutilated, poorly drawn face, deformed, dehydrated, bad proportions"
)


@dataclass(frozen=True)
class Priors:
    """prompt: link to the text. views, pictures, video: model, vae, positive and negative of a role, and its prompts by direction.

    clip: the text encoder for further prompts. learner: what VSD's phi is connected to where it rides on a model of its own.
    """

    prompt: list
    views: dict
    pictures: dict
    video: dict
    clip: list
    learner: dict = field(default_factory=dict)


def embedded(graph: Graph, prompt: str) -> Priors:
    """One small network in every role."""
    graph.group("Prior and prompt", BLUE)
    text = graph.add("PrimitiveStringMultiline", "Prompt", value=prompt)
    loader = graph.add("Bloom4DEmbeddedPriorLoader", "Prior")
    graph.column()
    positive = graph.add("CLIPTextEncode", "Prompt for the prior", text=text[0], clip=loader[1])
    negative = graph.add("CLIPTextEncode", "Negative prompt", text="", clip=loader[1])
    role = {"model": loader[0], "vae": loader[2], "positive": positive[0], "negative": negative[0]}
    return Priors(text[0], role, role, role, loader[1])


def real(graph: Graph, prompt: str) -> Priors:
    """MVDream, Stable Diffusion 2.1-base and Zeroscope; text encoder and VAE of the last two are Stable Diffusion's."""
    graph.group("Models and prompt", BLUE)
    text = graph.add("PrimitiveStringMultiline", "Prompt", value=prompt)
    views = graph.add("Bloom4DMVDreamLoader", "Multi-view model", models=(MVDREAM,), checkpoint=MVDREAM.name)
    image, video = real_loaders(graph)
    graph.column()
    told = graph.add("CLIPTextEncode", "Prompt for the multi-view model", text=text[0], clip=views[1])
    avoided = graph.add("CLIPTextEncode", "What the multi-view model avoids", text=MVDREAM_NEGATIVE, clip=views[1])
    many = {"model": views[0], "vae": views[2], "positive": told[0], "negative": avoided[0]}
    both = directed(graph, text[0], image)
    return Priors(text[0], many, {"model": image[0], **both}, {"model": video[0], **both}, image[1])


def real_with_learner(graph: Graph, prompt: str) -> Priors:
    """The same, and Stable Diffusion 2.1 (v-prediction), on which VSD's phi rides and hears the plain prompt."""
    priors = real(graph, prompt)
    graph.column()
    model = graph.add("CheckpointLoaderSimple", "Model that learns", models=(SD21,), ckpt_name=SD21.name)
    said = {name: graph.add("CLIPTextEncode", title, text=text, clip=model[1])[0] for name, title, text in (("phi_positive", "Prompt for what learns", priors.prompt), ("phi_negative", "Negative prompt for what learns", ""))}
    return replace(priors, learner={"phi_model": model[0], **said})


def real_video(graph: Graph, prompt: str) -> Priors:
    """Zeroscope alone, with Stable Diffusion's text encoder and VAE."""
    graph.group("Models and prompt", BLUE)
    text = graph.add("PrimitiveStringMultiline", "Prompt", value=prompt)
    image, video = real_loaders(graph)
    return Priors(text[0], {}, {}, {"model": video[0], **directed(graph, text[0], image)}, image[1])


def real_loaders(graph: Graph):
    """Stable Diffusion 2.1-base and Zeroscope."""
    image = graph.add("CheckpointLoaderSimple", "Image model", models=(SD21_BASE,), ckpt_name=SD21_BASE.name)
    return image, graph.add("Bloom4DZeroscopeLoader", "Video model", models=(ZEROSCOPE,), model=ZEROSCOPE.name)


def directed(graph: Graph, text: list, image) -> dict:
    """VAE and prompts of Stable Diffusion: the text with the side it is seen from behind it (DreamFusion); from the side is its plain one."""
    graph.column()
    negative = graph.add("CLIPTextEncode", "Negative prompt", text="", clip=image[1])
    words = {side: graph.add("StringConcatenate", f"Words: {side} view", string_a=text, string_b=f", {side} view", delimiter="") for side in SIDES}
    graph.column()
    encoded = {side: graph.add("CLIPTextEncode", f"Prompt: {side} view", text=said[0], clip=image[1])[0] for side, said in words.items()}
    return {"vae": image[2], "negative": negative[0], **{name: encoded[side] for side, name in SIDES.items()}}
