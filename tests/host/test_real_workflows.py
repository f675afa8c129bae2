"""The graphs on real models in a real ComfyUI: on synthetic files of their layout they run, without files they say what is missing."""

import client
import demo_workflows as demo
import pytest
import real_files
from graphs.shipped import GRAPHS

LOADERS = {"Bloom4DMVDreamLoader": "Open RAIL", "Bloom4DZeroscopeLoader": "BY-NC", "Bloom4DZero123Loader": "MIT"}


@pytest.fixture(scope="module")
def real_server(comfy, demo_server):
    """The suite's host with the synthetic files."""
    real_files.lay_out(demo_server.base / "models")
    real_files.put_picture(demo_server.base / "input")
    return demo_server


@pytest.fixture(scope="module")
def asset(real_server):
    """A saved field, for graphs that begin with one."""
    node = lambda kind, **inputs: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}  # noqa: E731
    made = {
        "1": node("Bloom4DHashField", size="demo", initial_density="soft ball", blob_radius=0.55, background="none", seed=8),
        "2": node("Bloom4DSaveField", field=["1", 0], filename_prefix="bloom4d/fields/real"),
    }
    return real_server.run(made).outputs["2"]["text"][0]


@pytest.mark.parametrize("name", demo.REAL)
def test_the_graph_runs_on_files_of_the_true_layout(real_server, asset, name):
    prompt = real_files.smoke(name)
    for title in demo.of_class(prompt, "Bloom4DLoadField"):
        demo.change(prompt, {title: {"path": asset}})
    run = real_server.run(prompt)
    assert set(run.executed) | run.cached == set(prompt)
    saved = [entry["filename"] for node in run.outputs.values() for values in node.values() for entry in values if isinstance(entry, dict) and entry.get("type") == "output"]
    assert any(file.endswith(".mp4") for file in saved) and any(file.endswith(".safetensors") for file in saved)
    assert "of the LoRA" not in str(run.outputs), "a LoRA for this base fits"
    if name == "text_to_4d_4dfy":
        assert "model_type EPS" in real_server.log and "model_type V_PREDICTION" in real_server.log, "the host tells both Stable Diffusion 2.1 by its own rule"


def named_files(name: str) -> list:
    """(title of the loader, file) of every file that a graph names, by ComfyUI's loaders and by ours."""
    graph = GRAPHS[name]()
    return [(graph.nodes[node]["_meta"]["title"], file) for node, files in graph.files.items() for file in files]


@pytest.mark.parametrize("name", demo.REAL)
def test_without_files_the_queue_stops_with_every_file(bare_server, name):
    """Name, folder, size, licence and link of each, on the command line; ComfyUI itself says of its own loaders' files that they are in no list."""
    prompt = demo.load(name)
    answer = bare_server.reject(prompt)
    said = client.explain_rejection(answer, prompt).splitlines()
    wanted = named_files(name)
    others = [line for line in said if not any(file.name in line for _, file in wanted)]
    assert len(wanted) >= 2 and len(said) == len(wanted) + len(others) and all("example.png" in line for line in others), said
    for title, file in wanted:
        line, = (line for line in said if line.startswith(f"{title}: "))
        for part in (file.name, f"models/{file.folder}", file.size, file.licence, file.url):
            assert part in line, (part, line)
    for kind in demo.classes(prompt) & LOADERS.keys():  # what the browser shows at the node
        title, = demo.of_class(prompt, kind)
        details = answer["node_errors"][demo.titled(prompt, title)]["errors"][0]["details"]
        for part in (str(bare_server.base / "models"), LOADERS[kind], "https://"):
            assert part in details, (part, details)


def test_a_batch_tells_every_file_in_its_row(bare_server, tmp_path):
    """`launch.py run --prompts`, `ablate` and `evaluate` keep the refusal in the row's one line."""
    from batch.executor import execute_row
    from batch.rows import make_row

    line = execute_row(bare_server.url, make_row(1, demo.load(demo.REAL[0]), {}, "test"), tmp_path)
    assert line["status"] == "error" and "\n" not in line["error"]
    assert all(file.name in line["error"] and file.licence in line["error"] for _, file in named_files(demo.REAL[0]))


SIDES = {"positive": ("Prompt: side view", "Prompt for the prior"), **{f"positive_{side}": (f"Prompt: {side} view", None) for side in ("front", "back", "overhead")}}
PICTURES = {"model": ("Image model", "Prior"), "vae": ("Image model", "Prior"), **SIDES}
VIDEO = {**PICTURES, "model": ("Video model", "Prior")}
LEARNER = {"phi_model": ("Model that learns", None), "phi_positive": ("Prompt for what learns", None), "phi_negative": ("Negative prompt for what learns", None)}
VIEWS = {
    "model": ("Multi-view model", "Prior"), "vae": ("Multi-view model", "Prior"), "positive": ("Prompt for the multi-view model", "Prompt for the prior"),
    "negative": ("What the multi-view model avoids", "Negative prompt"),
}  # fmt: skip
SQUARE, MASK = ("A square of it", "Mask of the picture"), ("Mask of the picture", "Mask of the picture")  # the keyer's first output is the picture without its background
UNAWARE = ("Prompt for the multi-view model", "Prompt without the identifier")
SAME_EVERYWHERE = {"Negative prompt": {"clip": ("Image model", "Prior")}}
DIFFER = {
    "text_to_4d_4dfy": {
        **{f"Multi-view, stage {stage}": VIEWS for stage in (1, 2, 3)}, "Image, stage 2": {**PICTURES, **LEARNER}, "Image, stage 3": {**PICTURES, **LEARNER}, "Video, stage 3": VIDEO,
    },
    "text_to_4d_dream_in_4d": {"Multi-view, static": VIEWS, "Image, static": PICTURES, "Video, motion": VIDEO},
    "reanimate_4d": {"Asset": {"path": (None, "Save the asset")}, "Video, motion": VIDEO},
    "personalised_4d": {
        "Multi-view, static": {**VIEWS, "positive": UNAWARE}, "Image, static": {**PICTURES, "model": ("Personal LoRA", "Personal model")},
        "Video, motion": {"model": ("Video model", "Prior"), "vae": ("Image model", "Prior"), "positive": ("Prompt for the video model", "Prompt without the identifier")},
        "Scores": {"prompt": ("Without the identifier", "Subject")},
    },
    "image_to_4d": {
        "Views from the picture": {"model": ("View model", "Prior"), "vae": ("View model", "Prior")}, "Image, still": PICTURES,
        "Video, motion": {**VIDEO, "positive": ("Prompt: side view", "Given picture"), "negative": ("Negative prompt", "Given picture")},
        "Views": {"first": (None, "Where the picture was taken")}, "Video of one camera": {"first": (None, "Where the picture was taken")},
        "The picture, still": {"image": SQUARE, "mask": MASK}, "The picture, moving": {"image": SQUARE, "mask": MASK},
        "See the picture": {"images": SQUARE}, "Mask as picture": {"mask": MASK}, "Picture, twice": {"image": SQUARE},
        "Picture": {"samples": (None, "Draw the picture"), "vae": (None, "Prior")},
        "Mask of the picture": {"image": ("A square of it", "Picture"), "bg_removal_model": ("Background removal", None)},
        "Given picture": {"clip_vision": ("View model", None), "vae": ("View model", "Prior"), "image": SQUARE, "mask": MASK,
                          "positive": (None, "Prompt for the prior"), "negative": (None, "Negative prompt")},
    },
}  # fmt: skip
"""Title -> input -> (where the real graph's link comes from, where the demo's), of all links that differ."""
OF_DEMOS = {
    "reanimate_4d": {"Field", "Prompt of the asset", "Views of the asset", "Multi-view of the asset", "Stage of the asset", "Make the asset", "Make the asset: views x times", "Save the asset"},
    "personalised_4d": {"Prompt without the identifier", "Five sides", "Subject", "See the subject", "Pictures as latents", "Train the LoRA", "Loss of the LoRA", "Save LoRA", "Personal model"},
    "image_to_4d": {"Where the picture was taken", "Told side and stage", "Empty picture", "Draw the picture"},
}
"""What a demo has beside its prior, in the place of what people bring."""
TEXT = {"CLIPTextEncode", "StringConcatenate", "ImageScale"}  # a real graph has a prompt for each side, and cuts the picture


def linked(prompt: dict, title: str) -> dict:
    """Input -> (title of the node behind it, its output)."""
    found = {name: value for name, value in prompt[demo.titled(prompt, title)]["inputs"].items() if isinstance(value, list)}
    return {name: (prompt[node]["_meta"]["title"], slot) for name, (node, slot) in found.items()}


def differences(real: dict, small: dict, title: str) -> dict:
    one, other = linked(real, title), linked(small, title)
    return {name: tuple(link and link[0] for link in (one.get(name), other.get(name))) for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.mark.parametrize("name", demo.REAL)
def test_a_real_graph_is_its_demo_on_other_loaders(name):
    """Nodes and links, so that what is learned on one holds for the other; what differs is listed above, and only models, prompts, pictures and masks do."""
    real, small = (demo.load(graph) for graph in (name, f"{name}_demo"))
    kinds = [{node["_meta"]["title"]: node["class_type"] for node in prompt.values()} for prompt in (real, small)]
    both = kinds[0].keys() & kinds[1].keys()
    found = {title: differences(real, small, title) for title in both}
    assert {title: links for title, links in found.items() if links} == {**SAME_EVERYWHERE, **DIFFER[name]}
    assert {kinds[0][title] for title in kinds[0].keys() - both} <= TEXT | {kind for kind in kinds[0].values() if "Load" in kind}
    assert kinds[1].keys() - both == OF_DEMOS.get(name, set()) | {"Prior", "Prompt for the prior"}
    swapped = {title: (kinds[0][title], kinds[1][title]) for title in both if kinds[0][title] != kinds[1][title]}
    pictures = {"Picture": ("LoadImage", "VAEDecode"), "Mask of the picture": ("RemoveBackground", "Bloom4DFlatBackgroundMask"), "Given picture": ("Bloom4DZero123Condition", "Bloom4DCleanFrameCondition")}
    assert swapped == (pictures if name == "image_to_4d" else {})


def test_a_link_that_went_elsewhere_would_be_found():
    real, small = (demo.load(graph) for graph in ("text_to_4d_4dfy", "text_to_4d_4dfy_demo"))
    real[demo.titled(real, "Optimize stage 2")]["inputs"]["field"] = [demo.titled(real, "Field"), 0]
    assert differences(real, small, "Optimize stage 2") == {"field": ("Field", "Optimize stage 1")}
