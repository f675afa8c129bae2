"""Image to 4D as Dream-in-4D does it: one picture becomes a still object, which is frozen and moved.

Both graphs are one: `build_demo` and `build_real` differ in the loaders, in where picture and mask come from, and in the tables
of values below. `python tools/write_workflows.py` writes the workflows again after any change.
"""

from dataclasses import dataclass, replace

from .builder import Graph
from .dream_in_4d import CODE_RATES, LEVELS, RELATIVE, SIDES, WINDOW, add_motion
from .dream_in_4d import DEMO_VALUES as MOVING
from .dream_in_4d import REAL_VALUES as REAL_MOVING
from .model_files import BIREFNET, ZERO123_XL
from .outcome import GREEN, GREY, NEEDS, add_optimiser, add_results, add_stage
from .priors import BLUE, Priors, directed, embedded, real_loaders

NAME = "image_to_4d"
DEMO = f"{NAME}_demo"
PROMPT = "a pink ice cream with a cherry melting"
REAL_PROMPT = "a corgi running"

ABOUT_DEMO = f"""## Image to 4D as Dream-in-4D does it, on any computer

Press **Run**. One picture becomes an object that is seen from all sides and moves: a video, scores, curves, and the field as a file.

**The picture** is drawn by KSampler from the prompt, so that the graph runs without any file. For your own, connect Load Image in its place: an object in front of one colour, 64 x 64 or larger, of the seven things that the demo prior knows, and name it in the prompt. *Where the picture was taken* says from which side and at which stage it shows the object.

**The mask** comes from *Flat Background Mask*, which also takes the background out of the edges.

**Two stages** (Dream-in-4D):
1. *A still object*: the prior sees the picture as it is beside three views of the field and says how they must look (its image-to-view role); each view is also judged alone; *Reference View Loss* holds the field to the picture.
2. *Motion*: the object is frozen, and a Deformable Field learns where each point comes from at each time. The prior sees the picture again and says what comes before and after; the reference view stays.

Not one number of the still object changes in the second stage: *Moving field* and its optimizer show its hash. *Reference view: scores* says how well the picture is kept, in decibels.

**With the models of the paper**: *{NAME}* is the same graph.

{NEEDS}"""

ABOUT_REAL = """## Image to 4D as Dream-in-4D does it, with its models

Load a picture of one object, write what it is and does, and press **Run**. The host's Remove Background masks it. This graph was tried here on small random networks of the true layout, never yet on the real files.

**Two stages**: Zero123-XL and Stable Diffusion 2.1 judge views of the field while *Reference View Loss* holds it to the picture, 2,000 steps; then the object is frozen and Zeroscope moves it, 10,000 steps, and the reference view is kept.

**Where paper and code differ** the values here are the code's. The paper says no more of images than: the static stage with Zero123-XL and DeepFloyd IF in the place of its models, and the picture with its mask at the reference view. Taken at its word that stage is
- *10,000 steps* (code: 2,000), *AdamW*, learning rates 0.01 for the grid and 0.001 for networks, weight decay 0.01 as by default (code: Adam without decay, 0.01 for all);
- *eight views of 64 x 64 in the first half, then four of 256 x 256* (code: twelve of 64 for 200 steps, four of 128 for 100, then two of 256);
- *a background network* (code: one colour, here white);
- *renders of 144 x 72 in the second stage* by the paper's text (its supplement and the code: 144 x 80), constant learning rates (code: halved at 8,000 and 9,000 steps), and the object's own size (code: *deformation_scale* 1.5 to 2; here 1, since it cuts off a large object).
- only in the code: the reference camera (distance 3.8, field of view 20), all weights, elevations of -10 to 80, and the noise levels.

The presets *paper* and *code* (right click on the canvas) set all of these that are widgets; the background stays.

**Where this differs from both**: the single pictures are judged by Stable Diffusion 2.1 instead of DeepFloyd IF (connect *DeepFloyd Loader* in its place), and guidance scales are counted as u + s (c - u): the code's 20 and 100 are 21 and 101 here. The reference view is kept in the second stage, too.

**Stable Zero123**: choose its file in *View model*, guidance 3 to 5. **The object is small**: raise *deformation_scale* of Deformable Field to 1.5 or 2 (preset *small object*)."""


@dataclass(frozen=True)
class Given:
    """The picture, its mask (plain: as a picture), where it was taken as numbers, and as cameras for those that begin with it."""

    image: list
    mask: list
    plain: list
    pose: dict
    place: list | None = None


# ---- the code's values

POSE = {"azimuth": 0.0, "elevation": 0.0, "distance": 3.8, "fov": 20.0}
CODE_TERM = {  # 12 of 64, 4 of 128, 2 of 256
    "width": 256, "height": 256, "coarse_factor": 0.25, "coarse_until": 0.1, "coarse_scenes": 12, "half_until": 0.15, "half_scenes": 4, "scenes": 2, "weight": 0.1,
}  # fmt: skip
REAL_VALUES = {
    **{title: REAL_MOVING[title] for title in ("Renderer", "Video, motion", "Smooth motion", "Stage 2", "Optimize stage 2", "Fine renderer", "Orbit through time", "Render")},
    "Field": {"size": "4D-fy", "initial_density": "magic3d", "blob_radius": 0.5, "background": "solid", "background.colour": "#ffffff"},
    "Views": {"views": 1, "spacing": "independent", "elevation_min": -10.0, "elevation_max": 80.0, **{f"{name}_{end}": POSE[name] for name in ("distance", "fov") for end in ("min", "max")}, "time_min": 0.0, "time_max": 0.0},
    "Views from the picture": {**CODE_TERM, "guidance_scale": 3.0, "weighting": "sds", "rescale": 0.0, "noise_level": "per picture", "t_max_start": 0.85, "t_max_end": 0.5, "t_min_start": 0.4, "t_min_end": 0.2, "anneal_until": 0.1},
    "Image, still": {**CODE_TERM, "guidance_scale": 21.0, "t_max_start": 0.5, "t_max_end": 0.5, "t_min_start": 0.02, "t_min_end": 0.02},
    "The picture, still": {"height": 512, "quarter_until": 0.1, "half_until": 0.15},
    "The picture, moving": {"height": 128},
    "Stage 1": {**CODE_RATES, "rate_decoder": 1e-2, "rate_background": 0.0, "opaque": 0.1, "sparsity": 0.1, "penalties_until": 0.0, "random_background": 0.0, "weight_decay": 0.0},
    "Optimize stage 1": {"steps": 2_000},
    "Video of one camera": {**RELATIVE, **SIDES, **WINDOW, "elevation_max": 45.0, "frames": 24},
    "Moving field": {"size": "Dream-in-4D"},
    "Reference view": {"width": 512, "height": 512},
}  # fmt: skip

# ---- the demo's values

MOMENT = 0.5  # the stage that the picture shows
SHORT_FILM = {"Orbit through time": {"frames": 24}, "Render": {"width": 128, "height": 128}}
STRENGTH = {"rgb_weight": 5000.0, "mask_weight": 1000.0}  # the demo prior's losses are sums of 6,144 numbers
DEMO_VALUES = {
    "Fine renderer": MOVING["Fine renderer"],
    **SHORT_FILM,
    "Views": {"views": 4, "spacing": "independent", "elevation_min": -5.0, "elevation_max": 40.0, "time_min": MOMENT, "time_max": MOMENT},
    "Views from the picture": {**LEVELS, "coarse_factor": 0.5, "coarse_until": 0.5},
    "Image, still": {**LEVELS, "coarse_factor": 0.5, "coarse_until": 0.5, "weighting": "recon", "each_alone": True, "weight": 0.5},
    "The picture, still": {"height": 64, "half_until": 0.5, **STRENGTH},
    "The picture, moving": {"height": 64, "half_until": 0.5, **STRENGTH},
    "Stage 1": {"rate_static": 0.03, "rate_decoder": 0.007, "opaque": 30.0, "static_levels": 0.5, "levels_until": 0.7},
    "Optimize stage 1": {"steps": 100},
    "Video of one camera": {"views": 2, "frames": 4, "spacing": "independent", "elevation_min": 0.0, "elevation_max": 30.0},
    "Video, motion": {**LEVELS, "weighting": "recon", "coarse_factor": 0.5, "coarse_until": 0.5},
    "Smooth motion": {"weight": 0.3},
    "Field": MOVING["Field"],
    "Moving field": {**MOVING["Moving field"], "time": MOMENT},
    "Stage 2": {"dynamic_levels": 0.34, "levels_until": 0.4, "rate_static": 0.0, "rate_dynamic": 0.08, "rate_decoder": 0.015},
    "Optimize stage 2": {"steps": 250},
    "Reference view": {"width": 64, "height": 64},
}  # fmt: skip


def build_demo() -> Graph:
    graph = Graph(ABOUT_DEMO, DEMO_VALUES)
    priors = embedded(graph, PROMPT)
    given = drawn(graph, priors)
    views = clean_frame(graph, priors, given)
    return build(graph, replace(priors, views=views, video=views), given)


def build_real() -> Graph:
    graph = Graph(ABOUT_REAL, REAL_VALUES)
    graph.group("Models and prompt", BLUE)
    text = graph.add("PrimitiveStringMultiline", "Prompt", value=REAL_PROMPT)
    view = graph.add("Bloom4DZero123Loader", "View model", models=(ZERO123_XL,), checkpoint=ZERO123_XL.name)
    image, video = real_loaders(graph)
    told = directed(graph, text[0], image)
    given = loaded(graph)
    seen = graph.add("Bloom4DZero123Condition", "Given picture", clip_vision=view[1], vae=view[2], image=given.image, mask=given.mask, **{name: POSE[name] for name in ("azimuth", "elevation", "distance")})
    views = {"model": view[0], "vae": view[2], "positive": seen[0], "negative": seen[1]}
    return build(graph, Priors(text[0], views, {"model": image[0], **told}, {"model": video[0], **told}, image[1]), given)


def drawn(graph: Graph, priors: Priors) -> Given:
    """A picture of the prior's own, over white, from a known side at a known stage."""
    graph.group("The picture", BLUE)
    pose = {"azimuth": 0.0, "elevation": 15.0, "distance": 2.9, "fov": 42.0}
    place = graph.add("Bloom4DCameraPath", "Where the picture was taken", frames=1, turns=0.0, time_start=MOMENT, time_end=MOMENT, **pose)[0]
    told = graph.add("Bloom4DCameraTimeCondition", "Told side and stage", positive=priors.pictures["positive"], negative=priors.pictures["negative"], cameras=place)
    empty = graph.add("EmptyLatentImage", "Empty picture", width=64, height=64, batch_size=1)
    graph.column()
    settings = {"steps": 8, "cfg": 1.5, "seed": 1, "sampler_name": "lcm", "scheduler": "simple", "denoise": 1.0}
    latent = graph.add("KSampler", "Draw the picture", model=priors.pictures["model"], positive=told[0], negative=told[1], latent_image=empty[0], **settings)
    picture = graph.add("VAEDecode", "Picture", samples=latent[0], vae=priors.pictures["vae"])
    graph.column()
    keyed = graph.add("Bloom4DFlatBackgroundMask", "Mask of the picture", image=picture[0])
    return Given(keyed[0], keyed[1], show(graph, keyed[0], keyed[1]), {**pose, "time": MOMENT}, place)


def loaded(graph: Graph) -> Given:
    """A picture from the host's input folder, masked by the host."""
    graph.group("The picture", BLUE)
    picture = graph.add("LoadImage", "Picture", image="example.png")
    square = graph.add("ImageScale", "A square of it", image=picture[0], upscale_method="lanczos", width=512, height=512, crop="center")
    model = graph.add("LoadBackgroundRemovalModel", "Background removal", models=(BIREFNET,), bg_removal_name=BIREFNET.name)
    mask = graph.add("RemoveBackground", "Mask of the picture", bg_removal_model=model[0], image=square[0])
    graph.column()
    return Given(square[0], mask[0], show(graph, square[0], mask[0]), {**POSE, "time": 0.0})


def show(graph: Graph, image, mask):
    """Previews of both; returns the link to the mask as a picture."""
    graph.add("PreviewImage", "See the picture", images=image)
    plain = graph.add("MaskToImage", "Mask as picture", mask=mask)
    graph.add("PreviewImage", "See the mask", images=plain[0])
    return plain[0]


def clean_frame(graph: Graph, priors: Priors, given: Given) -> dict:
    """What guidance is connected to when the prior sees the picture as the first of each scene."""
    graph.column()
    role = priors.views
    seen = graph.add("Bloom4DCleanFrameCondition", "Given picture", positive=role["positive"], negative=role["negative"], vae=role["vae"], image=given.image, mask=given.mask)
    return {**role, "positive": seen[0], "negative": seen[1]}


def build(graph: Graph, priors: Priors, given: Given) -> Graph:
    """The two stages, what they leave, and how well the picture is kept."""
    graph.column()
    field, renderer = graph.add("Bloom4DHashField", "Field")[0], graph.add("Bloom4DVolumeRenderer", "Renderer")[0]
    still = add_still(graph, priors, given, field, renderer)
    kept = reference(graph, "The picture, moving", given, train_motion=True)
    moving = add_motion(graph, priors.video, still, renderer, NAME, given.place, (kept,))
    fine = add_results(graph, moving, priors.prompt, NAME)
    add_kept(graph, moving, given, fine)
    return graph


def reference(graph: Graph, title: str, given: Given, **settings):
    """The loss that holds a field to the picture."""
    return graph.add("Bloom4DReferenceViewLoss", title, image=given.image, mask=given.mask, **given.pose, **settings)


def add_still(graph: Graph, priors: Priors, given: Given, field, renderer):
    """Stage 1: views from the picture, each view alone, and the picture itself."""
    graph.group("Stage 1: a still object", GREEN)
    cameras = graph.add("Bloom4DCameraSampler", "Views", **({} if given.place is None else {"first": given.place}))
    graph.column()
    views = graph.add("Bloom4DMultiViewGuidance", "Views from the picture", cameras=cameras[0], **priors.views)
    pictures = graph.add("Bloom4DSDSGuidance", "Image, still", cameras=cameras[0], **priors.pictures)
    graph.column()
    stage = add_stage(graph, "Stage 1", [views, pictures, reference(graph, "The picture, still", given)], name="still")
    return add_optimiser(graph, "Optimize stage 1", field, stage, renderer, NAME)


def add_kept(graph: Graph, moving, given: Given, fine):
    """How well the picture is kept: its view of the moving field against it, twice, since scores take two pictures at least."""
    graph.group("Is the picture kept?", GREY)
    time, pose = given.pose["time"], {name: value for name, value in given.pose.items() if name != "time"}
    path = graph.add("Bloom4DCameraPath", "Reference view, twice", frames=2, turns=0.0, time_start=time, time_end=time, **pose)
    seen = graph.add("Bloom4DRenderField", "Reference view", field=moving, cameras=path[0], renderer=fine, background="field")
    graph.add("PreviewImage", "See the reference view", images=seen[0])
    graph.column()
    picture = graph.add("RepeatImageBatch", "Picture, twice", image=given.image, amount=2)
    masks = graph.add("RepeatImageBatch", "Mask, twice", image=given.plain, amount=2)
    mask = graph.add("ImageToMask", "Mask again", image=masks[0], channel="red")
    scored = {"images": seen[0], "mask": seen[1], "reference": picture[0], "reference_mask": mask[0], "cameras": path[0], "label": f"{NAME}: reference view"}
    graph.add("Bloom4DMetrics", "Reference view: scores", phenomenon="none", filename_prefix=f"bloom4d/scores/{NAME}_reference", **scored)
