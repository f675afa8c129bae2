"""Pictures, views and clips: what a MODEL makes of a guidance node's cameras; what cannot be meant is refused, what is odd is said."""

import comfy.model_base

from .conditions import reads_views

IMAGE, VIEWS, VIDEO = "image", "multi-view", "video"


def takes_clips(model) -> bool:
    """Whether latents have a time axis (Wan, LTX, Zeroscope, ...); some of these models make single pictures, as clips of one frame."""
    return model.get_model_object("latent_format").latent_dimensions == 3


def takes_frames_as_batch(model) -> bool:
    """Whether a batch of latents is one clip (Stable Video Diffusion, SV3D)."""
    return isinstance(model.model, comfy.model_base.SVD_img2vid)


def clip_frames(slot: str, cameras) -> int:
    """How many pictures are a clip for a video MODEL: all frames of a video term, each picture by itself elsewhere."""
    return cameras.frames if slot == VIDEO else 1


def check_slot(slot: str, model, cameras, scenes: int) -> None:
    """ValueError where a MODEL would take the pictures of a term for another thing than they are."""
    name = type(model.model).__name__
    if takes_frames_as_batch(model):
        if slot != VIDEO:
            raise ValueError(f"This MODEL ({name}) makes a clip of every batch, and would take separate pictures for its frames. Connect it to a Video SDS Guidance, or connect a picture MODEL here.")
        if scenes != 1 or cameras.views != 1:
            raise ValueError(f"This MODEL ({name}) takes a batch for one clip: it can judge one scene seen by one camera, not {scenes} x {cameras.views}. Set scenes to 1 and the Camera Sampler's views to 1.")
    elif slot == VIDEO and takes_clips(model) and cameras.views != 1:
        raise ValueError(f"This MODEL ({name}) judges clips of one camera, and the Camera Sampler has {cameras.views} views. Set its views to 1 and its frames to the clip's length.")


def slot_notes(slot: str, model, cameras) -> list[str]:
    """What a MODEL cannot teach in this place, as sentences."""
    name = type(model.model).__name__
    clips, told = takes_clips(model) or takes_frames_as_batch(model), reads_views(model.model)
    if slot == VIDEO and clips and cameras.frames == 1:
        return [f"The clips for {name} have one frame, so that nothing in them moves. Set the Camera Sampler's frames, to 16 for example."]
    if slot == VIDEO and not clips and not told:
        return [f"{name} judges each frame of the video term by itself, so that it teaches no motion. Connect a video MODEL (Zeroscope, Wan, LTX, ...)."]
    if slot == VIEWS and not told:
        return [f"{name} judges each view by itself, so that nothing keeps the object's sides apart. Connect a MODEL of joint views (MVDream)."]
    if slot == IMAGE and takes_clips(model) and not told:
        return [f"{name} judges each picture of the image term as a clip of one frame."]
    return []


def lonely_pictures(terms, sources) -> str:
    """What to say of a stage in which models that hear of no camera judge every picture by itself; empty for any other.

    `terms` and their `sources`; those of one frame and one view that ask a MODEL are image terms.
    """
    if any(term.cameras.views > 1 for term in terms):
        return ""
    asked = [(term, source) for term, source in zip(terms, sources) if hasattr(source, "positives") and term.cameras.frames == 1]
    deaf = [source for _, source in asked if not (reads_views(source.model.model) and "camera" in source.tells) and len(source.positives) == 1]
    if not deaf or len(deaf) < len(asked):
        return ""
    return "No term of this stage looks at several views together, and image terms alone tend to make a face on every side. Add Multi-View Guidance, or prompts by view direction."
