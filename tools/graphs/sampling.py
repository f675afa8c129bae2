"""The embedded prior through KSampler, once in each of its roles."""

from .builder import Graph

NAME = "embedded_prior_sampling_demo"
PROMPT = "a red rose blooming"
SIZE, STEPS = 64, 16
FRAMES, RATE = 8, 8.0

ABOUT = """## The embedded prior in each of its roles

Press **Run**: one small network, an ordinary MODEL with CLIP and VAE, sampled by KSampler as

- **text to image**, with alpha by Decode RGBA,
- **four views** of one object, denoised jointly: Camera Time Condition tells it the cameras,
- **text to video**: the same condition with times instead,
- **image to views** and **image to video**: Clean Frame Condition gives one frame as it is. The picture comes from Procedural 4D Object; use Load Image for your own.

It is a demo of 64 x 64 pixels that knows seven things: a flower blooming or withering, a plant sprouting, a candle burning, an ice cream melting, a banana rotting, bread baking. Text to 4D uses it in the same roles.

**Needs** `embedded_prior.safetensors`, which comes with Bloom4D (folder `models/weights` of the pack, licence Apache-2.0). Nothing is ever downloaded.

A guidance scale (cfg) of 1.5 is enough for it. Latents must come in whole scenes: the batch size of the empty latent is the number of cameras."""

BLUE, GREEN, VIOLET = "#3a5068", "#3f5a3c", "#544a66"


def build() -> Graph:
    graph = Graph(ABOUT)
    graph.group("Prior and prompt", BLUE)
    loader = graph.add("Bloom4DEmbeddedPriorLoader", "Prior")
    prompt = graph.add("CLIPTextEncode", "Prompt", text=PROMPT, clip=loader[1])
    empty = graph.add("CLIPTextEncode", "Negative prompt", text="", clip=loader[1])
    add_pictures(graph, loader, prompt[0], empty[0])
    add_views(graph, loader, prompt[0], empty[0])
    add_video(graph, loader, prompt[0], empty[0])
    add_from_picture(graph, loader, empty[0])
    return graph


def sample(graph: Graph, title: str, loader, positive, negative, count: int, seed: int, cfg: float = 1.5):
    """An empty latent of `count` pictures and its sampler; returns the link to the latents."""
    latent = graph.add("EmptyLatentImage", f"{title}: empty", width=SIZE, height=SIZE, batch_size=count)
    settings = {"steps": STEPS, "cfg": cfg, "seed": seed, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    inputs = {"model": loader[0], "positive": positive, "negative": negative, "latent_image": latent[0]}
    return graph.add("KSampler", f"{title}: sample", **inputs, **settings)[0]


def save_pictures(graph: Graph, title: str, loader, latents, name: str):
    decoded = graph.add("VAEDecode", f"{title}: decode", samples=latents, vae=loader[2])
    graph.add("SaveImage", f"{title}: save", images=decoded[0], filename_prefix=f"bloom4d/prior/{name}")


def save_video(graph: Graph, title: str, loader, latents, name: str):
    decoded = graph.add("VAEDecode", f"{title}: decode", samples=latents, vae=loader[2])
    video = graph.add("CreateVideo", f"{title}: video", images=decoded[0], fps=RATE)
    graph.add("SaveVideo", f"{title}: save", video=video[0], filename_prefix=f"bloom4d/prior/{name}")


def condition(graph: Graph, title: str, positive, negative, cameras, **settings):
    return graph.add("Bloom4DCameraTimeCondition", f"{title}: cameras and times", positive=positive, negative=negative, cameras=cameras, **settings)


def add_pictures(graph: Graph, loader, positive, negative):
    graph.group("Text to image", GREEN)
    latents = sample(graph, "Image", loader, positive, negative, 4, seed=1)
    graph.column()
    rgba = graph.add("Bloom4DDecodeRGBA", "Image: decode with alpha", samples=latents, vae=loader[2])
    graph.add("SaveImage", "Image: save", images=rgba[0], filename_prefix="bloom4d/prior/image")
    mask = graph.add("MaskToImage", "Image: alpha as picture", mask=rgba[1])
    graph.add("PreviewImage", "Image: alpha", images=mask[0])


def add_views(graph: Graph, loader, positive, negative):
    graph.group("Text to four views", GREEN)
    ring = graph.add("Bloom4DCameraPath", "Views: a ring of four", frames=4, turns=0.75, time_start=0.7, time_end=0.7)
    told = condition(graph, "Views", positive, negative, ring[0])
    latents = sample(graph, "Views", loader, told[0], told[1], 4, seed=2)
    graph.column()
    save_pictures(graph, "Views", loader, latents, "views")


def add_video(graph: Graph, loader, positive, negative):
    graph.group("Text to video", GREEN)
    path = graph.add("Bloom4DCameraPath", "Clip: eight times, one camera", frames=FRAMES, turns=0.0)
    told = condition(graph, "Clip", positive, negative, path[0])
    latents = sample(graph, "Clip", loader, told[0], told[1], FRAMES, seed=3)
    graph.column()
    save_video(graph, "Clip", loader, latents, "video")


def add_from_picture(graph: Graph, loader, negative):
    """The picture says everything: the prompt is empty, guidance is off, cameras and times are told as differences."""
    graph.group("Image to views, image to video", VIOLET)
    given = graph.add("Bloom4DProcedural4DObject", "Given picture", phenomenon="candle burning", seed=3, times=1, azimuth=20.0, size=SIZE)
    graph.add("PreviewImage", "Given picture: look", images=given[0])
    graph.column()
    ring = graph.add("Bloom4DCameraPath", "More views: a ring of four", frames=4, turns=0.75, time_start=0.0, time_end=0.0)
    from_picture(graph, "More views", loader, negative, given, ring, 4, seed=4, time="relative", camera="relative", save=save_pictures, name="more_views")
    graph.column()
    path = graph.add("Bloom4DCameraPath", "What follows: eight times", frames=FRAMES, turns=0.0)
    from_picture(graph, "What follows", loader, negative, given, path, FRAMES, seed=5, time="absolute", camera="relative", save=save_video, name="what_follows")


def from_picture(graph: Graph, title: str, loader, negative, given, cameras, count: int, seed: int, time: str, camera: str, save, name: str):
    clean = graph.add("Bloom4DCleanFrameCondition", f"{title}: given frame", positive=negative, negative=negative, vae=loader[2], image=given[0], mask=given[1])
    told = condition(graph, title, clean[0], clean[1], cameras[0], camera=camera, time=time)
    latents = sample(graph, title, loader, told[0], told[1], count, seed, cfg=1.0)
    save(graph, title, loader, latents, name)
