"""Personalised 4D as Dream-in-4D does it: a model that learned one subject from a few pictures judges the single pictures.

Both graphs are one, Dream-in-4D's of `dream_in_4d`: only where the image model comes from and the prompts differ. The
multi-view and the video model do not know the subject and never hear its identifier.
"""

from .builder import Graph, ModelFile
from .dream_in_4d import DEMO_VALUES as MOVING
from .dream_in_4d import REAL_VALUES as REAL_MOVING
from .dream_in_4d import LEVELS, add_asset, add_motion
from .image_to_4d import SHORT_FILM
from .model_files import MVDREAM
from .outcome import NEEDS, add_results
from .priors import BLUE, MVDREAM_NEGATIVE, Priors, directed, embedded, real_loaders

NAME = "personalised_4d"
DEMO = f"{NAME}_demo"
IDENTIFIER = "sks"
PROMPT, REAL_PROMPT = f"a {IDENTIFIER} candle burning", f"a {IDENTIFIER} dog running"
SUBJECT = {"phenomenon": "candle burning", "species": "saucer", "colour": "pink", "seed": 5}
INSTANT = 0.5  # of the photographs, and of the still object
RANK, STEPS, RATE = 8, 300, 1e-3

ABOUT_DEMO = f"""## Personalised 4D, on any computer

Press **Run**. Five pictures of one object teach the demo prior a word for it; then Dream-in-4D's two stages make it a moving object.

**The subject** is a pink candle on a saucer, a pair of kind and colour that the prior never saw in its training, drawn by *Procedural 4D Object*. For your own, connect pictures over white of 64 x 64 instead; four to six sides of one thing are enough.

1. **Learn the word**: the host's *Train LoRA* (titled *Train the LoRA*) on the pictures with the prompt "a {IDENTIFIER} candle burning". *Personal model* patches the prior.
2. **A still object** from two judges at once: the patched prior sees each picture for itself and hears the identifier; the plain prior sees four views together and does not hear it. So one knows *what* it is, the other that it is *one thing from all sides*.
3. **Motion**: the still object is frozen, and the plain prior's videos move it by a displacement. The text of both optimizers shows that the frozen object stays the same to the byte.

**To see what the LoRA does**, set the strength in *Personal model* to 0: the object comes out in any colour and kind.

{NEEDS}"""

ABOUT_REAL = f"""## Personalised 4D as Dream-in-4D does it, with its models

A Stable Diffusion model that knows your subject by an identifier (here "{IDENTIFIER}") judges single pictures; MVDream keeps all sides one thing and never hears the identifier; Zeroscope moves the frozen result.

**Your subject**: a LoRA for Stable Diffusion 2.1-base, trained on four to six pictures under the prompt "a photo of {IDENTIFIER} dog". Make one with the host's *Train LoRA* and *Save LoRA* (or any DreamBooth trainer) and choose it in *Personal LoRA*. A whole DreamBooth checkpoint: choose it in *Image model* and bypass *Personal LoRA*.

Sizes and steps are the published code's, 10,000 for each stage; they need a GPU and hours. Smaller: fewer steps, `model_size` 256 in the guidance nodes. This graph was tried here on small random networks of the true layout, never yet on the real files.

**Where paper and code differ** is as in *text_to_4d_dream_in_4d*, since only the image model is another:
- *weights of views and pictures*: the code's 2 to 1 (paper: 1 to 1, for some prompts 1 to 1.2);
- *renders of 144 x 80*: the code's and the paper's supplement's (the paper's text: 144 x 72);
- *background*: the paper's three layers of 64 (code: two of 16 in the static stage);
- only in the code: noise levels of pictures 0.2 to 0.6, learning rates halved at 8,000 and 9,000 steps, and that MVDream does not hear the identifier.

The presets *paper* and *code* (right click on the canvas) set all of these that are widgets."""

LORA = ModelFile(
    "sks_dog_sd21.safetensors", "loras", "", "below 0.1 GB", "yours",
    "your subject's LoRA for Stable Diffusion 2.1-base, a file that you make; [pictures to train one on](https://github.com/google/dreambooth) (CC BY 4.0)",
)  # fmt: skip
DEMO_VALUES = {
    **MOVING,
    **SHORT_FILM,
    "Four views": {"time_min": INSTANT, "time_max": INSTANT},
    "Multi-view, static": {**MOVING["Multi-view, static"], "weight": 0.2},
    "Optimize stage 1": {"steps": 80},
    "Video, motion": {**LEVELS, "weighting": "recon", "coarse_factor": 0.5, "coarse_until": 0.5},
    "Smooth motion": {"weight": 2.0},
    "Moving field": {**MOVING["Moving field"], "time": INSTANT},
    "Stage 2": {"dynamic_levels": 0.34, "levels_until": 0.4, "rate_static": 0.0, "rate_dynamic": 0.08, "rate_decoder": 0.015},
    "Optimize stage 2": {"steps": 250},
}
REAL_VALUES = REAL_MOVING


def build_demo() -> Graph:
    graph = Graph(ABOUT_DEMO, DEMO_VALUES)
    heard = embedded(graph, PROMPT)
    role = heard.pictures
    plain = graph.add("CLIPTextEncode", "Prompt without the identifier", text=without_identifier(graph, heard.prompt), clip=heard.clip)
    unaware = {**role, "positive": plain[0]}
    subject = add_subject(graph)
    aware = {**role, "model": learned(graph, role, subject[0])}
    return build(graph, Priors(subject[4], unaware, aware, unaware, heard.clip))


def build_real() -> Graph:
    graph = Graph(ABOUT_REAL, REAL_VALUES)
    graph.group("Models and prompt", BLUE)
    text = graph.add("PrimitiveStringMultiline", "Prompt", value=REAL_PROMPT)
    plain = without_identifier(graph, text[0])
    views = graph.add("Bloom4DMVDreamLoader", "Multi-view model", models=(MVDREAM,), checkpoint=MVDREAM.name)
    image, video = real_loaders(graph)
    aware = graph.add("LoraLoaderModelOnly", "Personal LoRA", models=(LORA,), model=image[0], lora_name=LORA.name, strength_model=1.0)
    graph.column()
    told = graph.add("CLIPTextEncode", "Prompt for the multi-view model", text=plain, clip=views[1])
    avoided = graph.add("CLIPTextEncode", "What the multi-view model avoids", text=MVDREAM_NEGATIVE, clip=views[1])
    spoken = graph.add("CLIPTextEncode", "Prompt for the video model", text=plain, clip=image[1])
    many = {"model": views[0], "vae": views[2], "positive": told[0], "negative": avoided[0]}
    single = {"model": aware[0], **directed(graph, text[0], image)}
    moving = {"model": video[0], "vae": image[2], "positive": spoken[0], "negative": single["negative"]}
    return build(graph, Priors(plain, many, single, moving, image[1]))


def without_identifier(graph: Graph, text: list) -> list:
    """The prompt as the multi-view and the video model hear it."""
    return graph.add("StringReplace", "Without the identifier", string=text, find=f"{IDENTIFIER} ", replace="")[0]


def build(graph: Graph, priors: Priors) -> Graph:
    """Dream-in-4D's two stages, whatever the image model learned."""
    graph.column()
    field, renderer = graph.add("Bloom4DHashField", "Field")[0], graph.add("Bloom4DVolumeRenderer", "Renderer")[0]
    asset = add_asset(graph, priors, field, renderer, NAME)
    add_results(graph, add_motion(graph, priors.video, asset, renderer, NAME), priors.prompt, NAME)
    return graph


def add_subject(graph: Graph):
    """Five sides of a subject at one instant, over white: pictures, and a sentence that names it (output 4)."""
    graph.group("The subject and its word", BLUE)
    path = graph.add("Bloom4DCameraPath", "Five sides", frames=5, turns=1.0, time_start=INSTANT, time_end=INSTANT)
    subject = graph.add("Bloom4DProcedural4DObject", "Subject", size=64, cameras=path[0], **SUBJECT)
    graph.add("PreviewImage", "See the subject", images=subject[0])
    return subject


def learned(graph: Graph, role: dict, pictures) -> list:
    """The prior after the host has trained a LoRA on the pictures, under the prompt with the identifier."""
    graph.column()
    latents = graph.add("VAEEncode", "Pictures as latents", pixels=pictures, vae=role["vae"])
    training = {"batch_size": 1, "grad_accumulation_steps": 1, "steps": STEPS, "learning_rate": RATE, "rank": RANK, "seed": 0, "bypass_mode": True}
    settings = {**training, "training_dtype": "fp32", "lora_dtype": "fp32", "gradient_checkpointing": False}
    lora = graph.add("TrainLoraNode", "Train the LoRA", model=role["model"], latents=latents[0], positive=role["positive"], **settings)
    graph.column()
    graph.add("LossGraphNode", "Loss of the LoRA", loss=lora[1], filename_prefix=f"bloom4d/{NAME}_lora_loss")
    graph.add("SaveLoRA", "Save LoRA", lora=lora[0], prefix=f"bloom4d/loras/{NAME}", steps=lora[2])
    return graph.add("LoraModelLoader", "Personal model", model=role["model"], lora=lora[0], strength_model=1.0)[0]
