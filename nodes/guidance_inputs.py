"""What guidance nodes ask, and how a term's sizes, weight and prompts are read from it."""

from comfy_api.latest import io

from ..models.guidance.directions import DIRECTIONS
from ..models.guidance.distillation import SHARING, WEIGHTINGS
from ..models.guidance.schedules import Schedule, constant
from ..models.optimize.stages import Resolution
from .cameras import number
from .sockets import CAMERAS_4D

EVERYTHING = "camera and time"
TOLD = {EVERYTHING: ("camera", "time"), "camera": ("camera",), "time": ("time",), "nothing": ()}
SHARING_LABELS = {"per picture": "picture", "per scene": "scene", "whole batch": "batch"}
assert set(SHARING_LABELS.values()) == set(SHARING)


def prior_inputs() -> list:
    return [
        io.Model.Input("model", tooltip="Any diffusion MODEL of the host; LoRA, ControlNet and other patches on it apply."),
        io.Vae.Input("vae", tooltip="The VAE that belongs to the model. One that reads alpha (the embedded prior's) also guides opacity."),
        io.Conditioning.Input("positive", tooltip="The prompt of what is to be made."),
        io.Conditioning.Input("negative", tooltip="What to move away from; an empty prompt is fine."),
        CAMERAS_4D.Input("cameras", tooltip="A Camera Sampler: how many views and times one joint scene has, and from where."),
        io.String.Input("name", default="", tooltip="A name for this term's curves; empty names it after the node. It also seeds the term's random numbers."),
        number("weight", 1.0, 0, 1000, 0.001, "Factor on this term's loss."),
        number("guidance_scale", 0.0, -1, 200, 0.1, "Classifier-free guidance u + s (c - u). 0 or -1 takes the model's own default: about 3 for the embedded prior, 50 to 100 for Stable Diffusion. Reference code that prints 100 means 101 here."),
    ]  # fmt: skip


def direction_inputs() -> list:
    text = "Prompt for pictures seen from {}; without it the plain prompt is used."
    return [
        io.Conditioning.Input(f"positive_{name}", optional=True, tooltip=text.format(place))
        for name, place in (("front", "the front (azimuth within 30 degrees)"), ("back", "the back"), ("overhead", "above (elevation over 60 degrees)"))
    ]


def side_input() -> io.Conditioning.Input:
    return io.Conditioning.Input("positive_side", optional=True, tooltip="Prompt for pictures seen from the side, such as the prompt with \", side view\" behind it; without it the plain prompt is used.")


def by_direction(plain: list, values: dict, kind: str) -> tuple[list, ...]:
    """The plain prompt and those by direction ("positive" or "negative", an underscore, and the direction), each the plain one where there is none."""
    given = [values.get(f"{kind}_{name}") for name in DIRECTIONS[1:]]
    if all(text is None for text in given):
        return (plain,)
    known = given if given[-1] is not None else given[:-1]  # runs of before there was a side know four prompts by their identity
    return (plain, *(plain if text is None else text for text in known))


def level_inputs(high_end: float, low_start: float, until: float) -> list:
    return [
        number("t_max_start", 0.98, 0.001, 0.999, 0.001, "Highest noise level at the stage's start, as a fraction of the noise schedule (1 is pure noise)."),
        number("t_max_end", high_end, 0.001, 0.999, 0.001, "Highest noise level after annealing."),
        number("t_min_start", low_start, 0.001, 0.999, 0.001, "Lowest noise level at the stage's start."),
        number("t_min_end", 0.02, 0.001, 0.999, 0.001, "Lowest noise level after annealing. Weak priors like a high floor, 0.2 to 0.5."),
        number("anneal_until", until, 0, 1, 0.01, "Part of the stage over which the levels move from start to end."),
    ]


def render_inputs(scenes: int, motion: bool) -> list:
    return [
        io.Int.Input("width", default=64, min=8, max=2048, step=8, tooltip="Width of the renders; they are resized to what the model takes."),
        io.Int.Input("height", default=64, min=8, max=2048, step=8, tooltip="Height of the renders."),
        number("coarse_factor", 1.0, 0.1, 1, 0.05, "Smaller renders at first: this factor on width and height."),
        number("coarse_until", 0.0, 0, 1, 0.01, "Part of the stage that uses the smaller renders."),
        io.Int.Input("scenes", default=scenes, min=1, max=64, step=1, tooltip="Joint scenes per step, each with all the camera sampler's views and frames."),
        io.Boolean.Input("train_motion", default=motion, tooltip="Let this term change the dynamic part of the field. 4D-fy: video terms only. A prior that knows time may do so in every term."),
    ]


def fine_inputs(weighting: str, level_per: str, rescale: float) -> list:
    return [
        io.Combo.Input("weighting", options=list(WEIGHTINGS), default=weighting, advanced=True, tooltip="w(t): sds 1 - alpha_bar, uniform 1, fantasia3d sqrt(alpha_bar)(1 - alpha_bar), recon: the gradient is x0 - prediction (MVDream)."),
        io.Combo.Input("noise_level", options=list(SHARING_LABELS), default=level_per, advanced=True, tooltip="What shares one noise level."),
        number("rescale", rescale, 0, 1, 0.01, "Pull the guided estimate's contrast back to the unguided one's (MVDream: 0.5). Lower it to 0.3 when floaters appear.", advanced=True),
        number("clip", 0.0, 0, 1e6, 0.01, "Bound on each latent's gradient norm; 0 is off.", advanced=True),
        io.Boolean.Input("save_memory", default=False, advanced=True, tooltip="Always encode picture by picture in the backward pass: exact, slower. Off: only where the graphs of all pictures do not fit in free memory."),
    ]  # fmt: skip


def model_inputs() -> list:
    text = "Side of the square pictures that the model gets, a multiple of 8; 0: the size it was trained at (512 for Stable Diffusion 2.1). Smaller saves time and memory."
    told = "What the model hears of each picture, if it can listen (the embedded prior, MVDream). Less makes it a plain image or video model: an ablation."
    return [
        io.Int.Input("model_size", default=0, min=0, max=2048, step=8, advanced=True, tooltip=text),
        io.Combo.Input("told", options=list(TOLD), default=EVERYTHING, optional=True, advanced=True, tooltip=told),
    ]


def batch_inputs() -> list:
    """More scenes while renders are small, and a size between; off by default."""
    return [
        io.Int.Input("coarse_scenes", default=0, min=0, max=64, step=1, optional=True, advanced=True, tooltip="Joint scenes per step up to coarse_until; 0: as many as scenes (4D-fy's code, Dream-in-4D: two of four views, then one)."),
        number("half_until", 0.0, 0, 1, 0.01, "Part of the stage up to which renders have half their size, after coarse_until; 0 leaves that out (Dream-in-4D, image to 4D: 64, 128, 256).", advanced=True, optional=True),
        io.Int.Input("half_scenes", default=0, min=0, max=64, step=1, optional=True, advanced=True, tooltip="Joint scenes per step of half the size; 0: as many as scenes."),
    ]  # fmt: skip


def sizes_of(values: dict) -> dict:
    """A term's render sizes and scenes over the stage from a node's inputs."""
    coarse, half = values["coarse_until"], values.get("half_until", 0.0)
    resolution = Resolution(values["height"], values["width"], values["coarse_factor"], coarse, 0.5 if half else 1.0, half)
    return {"resolution": resolution, "scenes": values["scenes"], "first_scenes": values.get("coarse_scenes", 0), "second_scenes": values.get("half_scenes", 0)}


def option_inputs(from_behind: bool = False) -> list:
    """Options of the distillation, each off by default."""
    skip = number("skip_azimuth", 180, 0, 180, 1, "Leave out pictures from this many degrees or more off the front, where an image model paints a second face (Dream-in-4D: 145). 0 and 180 leave out none.", advanced=True, optional=True)
    return [
        number("anneal_from", 0, 0, 1, 0.01, "Part of the stage before which the noise levels stay at their start. Equal to anneal_until: a step (4D-fy's image term: at 0.5).", advanced=True, optional=True),
        number("decoded_weight", 0, 0, 100, 0.01, "Weight of the squared distance to the model's decoded picture, beside that in latents. With weighting recon: the x0 form of Dream-in-4D (0.1).", advanced=True, optional=True),
        io.Int.Input("denoising_steps", default=1, min=1, max=8, step=1, optional=True, advanced=True, tooltip="Model calls, each nearer to clean, that lead to its prediction; with recon weighting. More is steadier and sharper and costs as much more (Dream-in-4D's variant: 4)."),
        io.Boolean.Input("antithetic", default=False, optional=True, advanced=True, tooltip="Ask with the noise and with its negative and take the mean: much less random, two model calls."),
        *([skip] if from_behind else []),
    ]  # fmt: skip


def weight_inputs(most: float = 1000) -> list:
    """How a term's weight moves through the stage; by default it does not."""
    return [
        number("weight_end", -1, -1, most, 0.001, "Where weight moves to inside the stage, in a line: a term that comes in, or leaves the field to others. -1 keeps weight throughout.", advanced=True, optional=True),
        number("weight_from", 0, 0, 1, 0.01, "With weight_end: part of the stage before which weight stays as it is.", advanced=True, optional=True),
        number("weight_until", 1, 0, 1, 0.01, "With weight_end: part of the stage from which on it is reached. Equal to weight_from: a step.", advanced=True, optional=True),
    ]  # fmt: skip


def weight_of(values: dict) -> Schedule:
    """A term's weight from a node's inputs."""
    first, last = values["weight"], values.get("weight_end", -1.0)
    return constant(first) if last < 0 else Schedule(first, last, values.get("weight_from", 0.0), values.get("weight_until", 1.0))


def alone_input() -> io.Boolean.Input:
    text = "Judge several views of a scene each for itself, also by a model that would denoise them together (the embedded prior, MVDream): so that it is an image model on the very pictures that a multi-view term sees, as in Dream-in-4D's static stage."
    return io.Boolean.Input("each_alone", default=False, optional=True, advanced=True, tooltip=text)
