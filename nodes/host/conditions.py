"""The conditioning of a score session: its checks, its own ControlNet copies, cameras and times."""

from collections.abc import Sequence

import comfy.model_base
from torch import Tensor

from ...models.geometry.cameras import Cameras
from .zero123 import EMBEDDING, is_hosts_own, posed

TEXT_SIZES = ("context_dim", "context_in_dim", "text_dim", "cap_feat_dim", "caption_channels", "context_embedder_config", "text_embed_dim")
POOLED = (comfy.model_base.SDXL, comfy.model_base.SD3, comfy.model_base.HunyuanVideo)
"""Models that read the pooled text without asking whether it is there."""
PICTURE_SIZES = {comfy.model_base.SDXL: 6, comfy.model_base.SDXLRefiner: 5, comfy.model_base.SD3: 0, comfy.model_base.Flux: 0, comfy.model_base.HunyuanVideo: 0}
"""Models with a pooled vector: how many sizes of the picture, 256 numbers each, their network reads beside it."""
VIEW_TELLS = ("camera", "time")
"""What `view_keys` may tell a model."""
APART = "apart"  # or tell it: that the pictures of a scene do not belong together


def _shape_text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def check_latent_shape(model, shape: Sequence[int]):
    """ValueError unless latents of `shape` are what MODEL `model` denoises."""
    space = model.get_model_object("latent_format")
    wanted = f"{space.latent_channels} channels and {space.latent_dimensions} space and time axes"
    if len(shape) != 2 + space.latent_dimensions or shape[1] != space.latent_channels:
        raise ValueError(
            f"The latents are {_shape_text(shape)} but this MODEL ({type(model.model).__name__}) takes {wanted}. "
            "MODEL and VAE must come from the same checkpoint: connect both from one loader."
        )


def needs_text(model) -> bool:
    """Whether the network attends to text (its configuration has a text width)."""
    return any(model.model.model_config.unet_config.get(name) is not None for name in TEXT_SIZES)


def check_text(model, conditioning: list, name: str):
    """ValueError when `conditioning` has no text and the network cannot do without, or one of another encoder's width."""
    if not conditioning:
        raise ValueError(f"The {name} conditioning is empty. Connect a CLIP Text Encode; an empty prompt is allowed, no conditioning is not.")
    if needs_text(model) and any(entry[0] is None for entry in conditioning):
        raise ValueError(
            f"The {name} conditioning holds no text, and this MODEL ({type(model.model).__name__}) needs some. "
            'Connect a CLIP Text Encode; an empty prompt ("") is enough.'
        )
    width = text_width(model)
    widths = {entry[0].shape[-1] for entry in conditioning if isinstance(entry[0], Tensor)}
    if hasattr(model.model, "cc_projection"):
        check_picture(model, conditioning, name)
    elif width and widths - {width}:
        raise ValueError(
            f"The {name} conditioning is {min(widths - {width})} numbers wide, and this MODEL ({type(model.model).__name__}) takes {width}. "
            "Encode the prompts with the CLIP of the MODEL's own loader."
        )
    if isinstance(model.model, POOLED) and any(entry[1].get("pooled_output") is None for entry in conditioning):
        raise ValueError(
            f"The {name} conditioning has no pooled vector, and this MODEL ({type(model.model).__name__}) needs one beside the text. "
            "Encode the prompts with the CLIP of the MODEL's own loader."
        )
    check_pooled(model, conditioning, name)


def check_pooled(model, conditioning: list, name: str):
    """ValueError when the pooled vector is of another encoder's width."""
    width = pooled_width(model)
    given = {entry[1]["pooled_output"].shape[-1] for entry in conditioning if isinstance(entry[1].get("pooled_output"), Tensor) and "unclip_conditioning" not in entry[1]}
    if width and given - {width}:
        raise ValueError(
            f"The {name} conditioning's pooled vector is {min(given - {width})} numbers wide, and this MODEL ({type(model.model).__name__}) takes {width}. "
            "Encode the prompts with the CLIP of the MODEL's own loader."
        )


def text_width(model) -> int | None:
    """Numbers per token that the network takes; None where its configuration does not say."""
    config = model.model.model_config.unet_config
    sizes = (config.get(name) for name in TEXT_SIZES)
    sizes = (size["params"]["in_features"] if isinstance(size, dict) and "in_features" in size.get("params", {}) else size for size in sizes)  # SD3's embedder
    return next((size for size in sizes if isinstance(size, int)), None)


def pooled_width(model) -> int | None:
    """Numbers of the pooled text that the network takes; None for models that take none, or do not say."""
    config = model.model.model_config.unet_config
    size = config.get("vec_in_dim", config.get("adm_in_channels"))
    places = next((count for kind, count in PICTURE_SIZES.items() if isinstance(model.model, kind)), None)
    return size - 256 * places if places is not None and isinstance(size, int) else None


def check_start_picture(model, conditionings: Sequence[list], shape: Sequence[int]):
    """ValueError when a start picture was prepared for a clip of another length, which Wan takes only as it is."""
    if not isinstance(model.model, comfy.model_base.WAN21) or len(shape) != 5:
        return
    space = model.get_model_object("latent_format").temporal_downscale_ratio
    length = lambda latents: (latents - 1) * space + 1  # noqa: E731
    for entry in (entry for conditioning in conditionings for entry in conditioning):
        image = entry[1].get("concat_latent_image")
        if isinstance(image, Tensor) and image.ndim == 5 and image.shape[2] != shape[2]:
            raise ValueError(
                f"The start picture on the conditioning was prepared for a clip of {length(image.shape[2])} frames, and this term's clip has {length(shape[2])}. "
                f"Set length to {length(shape[2])} in the node that made it (Wan Image To Video), or change the Camera Sampler's frames."
            )


def check_picture(model, conditioning: list, name: str):
    """ValueError where Zero123 gets anything else than its token: a picture's embedding with a pose, or zeros of its width."""
    token = EMBEDDING + 4 if name == "positive" else EMBEDDING
    if any(entry[0].shape[1] != 1 or entry[0].shape[-1] not in (token, EMBEDDING) for entry in conditioning):
        raise ValueError(f"The {name} conditioning is no picture, and this MODEL ({type(model.model).__name__}) looks at one and reads no text. Connect Zero123 Condition.")


def own_controls(entries: list[dict], copies: dict) -> list[dict]:
    """The entries with their ControlNets replaced by copies that a session may change.

    `copies` maps an original to its copy, so that entries which share a ControlNet still do (the host only batches those).
    """
    return [{**entry, "control": _copy_control(entry["control"], copies)} if "control" in entry else dict(entry) for entry in entries]


def _copy_control(control, copies: dict):
    if control not in copies:
        copy = control.copy()
        previous = control.previous_controlnet
        copy.set_previous_controlnet(None if previous is None else _copy_control(previous, copies))
        copies[control] = copy
    return copies[control]


def has_gate(entries: list[dict]) -> bool:
    """Whether anything in processed entries switches with the noise level; the host then looks at a batch's first level only."""
    return any("timestep_start" in entry or "timestep_end" in entry or "hooks" in entry or _control_gate(entry.get("control")) for entry in entries)


def _control_gate(control) -> bool:
    while control is not None:
        if tuple(control.timestep_percent_range) != (0.0, 1.0):
            return True
        control = control.previous_controlnet
    return False


def view_keys(cameras: Cameras, tells: Sequence[str] = VIEW_TELLS) -> dict:
    """The condition keys that tell a model where its pictures are seen from and when (DESIGN, section 4).

    Models read them in their own `extra_conds` and convert to their own frames; a model that knows none ignores them. What
    `tells` leaves out is None, which also hides the values of the incoming conditioning. "apart" among them makes every
    picture a scene of its own.
    """
    return {
        "bloom4d_frames": 1 if APART in tells else cameras.frames,
        "bloom4d_camera": cameras.camera_to_world if "camera" in tells else None,
        "bloom4d_time": cameras.times if "time" in tells else None,
    }


def told(model, entries: list[dict], views: dict) -> list[dict]:
    """Entries that tell `model` the views of `view_keys`; the host's Stable Zero123, which knows no keys, gets them as poses."""
    entries = [entry | views for entry in entries]
    return [posed(entry, stable=True) for entry in entries] if is_hosts_own(model) else entries


def reads_views(model) -> bool:
    """Whether the model may be told the views: any class that is not the host's own may, unless it says `bloom4d_views = False`."""
    foreign = any(not kind.__module__.startswith(("comfy.", "torch.", "builtins")) for kind in type(model).__mro__)
    return is_hosts_own(model) or foreign and getattr(model, "bloom4d_views", True)
