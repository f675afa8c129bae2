"""Image to 4D and personalised 4D in a real ComfyUI at smoke size, and what they refuse."""

import io

import demo_workflows as demo
import pytest
import torch
from PIL import Image

IMAGE, PERSONAL = "image_to_4d_demo", "personalised_4d_demo"
FROZEN = "Moving field"


@pytest.fixture(scope="module")
def ran(demo_server):
    """Both demos once: name -> (prompt, run)."""
    prompts = {name: demo.smoke(name) for name in (IMAGE, PERSONAL)}
    return {name: (prompt, demo_server.run(prompt)) for name, prompt in prompts.items()}


def loaded(run, prompt, base):
    from bloom4d.models.optimize.scene_files import load_scene

    return load_scene(demo.saved_field(run, prompt, base))


@pytest.mark.parametrize("name", [IMAGE, PERSONAL])
def test_every_node_runs_and_a_video_scores_and_the_field_are_saved(ran, demo_server, name):
    prompt, run = ran[name]
    assert set(run.executed) | run.cached == set(prompt)
    files = [entry for node in run.outputs.values() for values in node.values() for entry in values if isinstance(entry, dict) and entry.get("type") == "output"]
    kinds = {entry["filename"].rsplit(".", 1)[1]: demo_server.view(entry) for entry in files}
    assert {"mp4", "json", "png", "safetensors"} <= kinds.keys() and kinds["mp4"][4:8] == b"ftyp"
    assert "absolute motion" in run.outputs[demo.titled(prompt, "Scores")]["scores"][0]["values"]


@pytest.mark.parametrize("name", [IMAGE, PERSONAL])
def test_the_still_object_is_the_same_to_the_byte_after_its_motion_stage(ran, demo_server, name):
    prompt, run = ran[name]
    said, = run.outputs[demo.titled(prompt, FROZEN)]["text"]
    field = loaded(run, prompt, demo_server.base).field
    assert said.endswith(field.canonical_hash())
    assert any(bool(parameter.any()) for parameter in field.roles()["dynamic"]), "nothing was learned"


def test_the_picture_holds_the_field_in_both_stages_and_is_compared_with_the_result(ran, demo_server):
    prompt, run = ran[IMAGE]
    terms = [history.terms for history in loaded(run, prompt, demo_server.base).history]
    assert terms == [("multi-view", "image", "reference"), ("video", "reference")]
    assert run.outputs[demo.titled(prompt, "Reference view: scores")]["scores"][0]["values"]["PSNR"] > 0


def test_the_reference_is_the_first_view_of_the_scenes_that_the_prior_sees(ran):
    """The clean frame is frame 0 of a scene: cameras that begin elsewhere would show the prior a picture from a wrong side."""
    prompt, _ = ran[IMAGE]
    place = [demo.titled(prompt, "Where the picture was taken"), 0]
    for title in ("Views", "Video of one camera"):
        assert prompt[demo.titled(prompt, title)]["inputs"]["first"] == place
    assert prompt[demo.titled(prompt, "Told side and stage")]["inputs"]["cameras"] == place
    assert prompt[demo.titled(prompt, "Given picture")]["inputs"]["first_frame"] == 0
    where = prompt[place[0]]["inputs"]
    for title in ("The picture, still", "The picture, moving"):
        told = prompt[demo.titled(prompt, title)]["inputs"]
        assert {name: told[name] for name in ("azimuth", "elevation", "distance", "fov")} == {name: where[name] for name in ("azimuth", "elevation", "distance", "fov")}
        assert told["time"] == where["time_start"] == where["time_end"]


def test_only_the_image_model_is_personal_and_only_its_prompt_says_the_identifier(ran):
    prompt, _ = ran[PERSONAL]
    models = {title: prompt[demo.titled(prompt, title)]["inputs"]["model"][0] for title in ("Multi-view, static", "Image, static", "Video, motion")}
    patched = demo.titled(prompt, "Personal model")
    assert [title for title, node in models.items() if node == patched] == ["Image, static"]
    texts = {title: prompt[prompt[demo.titled(prompt, title)]["inputs"]["positive"][0]]["inputs"]["text"] for title in models}
    removed = [demo.titled(prompt, "Without the identifier"), 0]
    assert texts["Multi-view, static"] == texts["Video, motion"] == removed != texts["Image, static"]
    assert prompt[removed[0]]["inputs"]["find"].strip() in prompt[demo.titled(prompt, "Prompt")]["inputs"]["value"].split()


def test_the_lora_is_saved_and_strength_0_is_the_plain_prior(ran, demo_server):
    assert list((demo_server.base / "output" / "bloom4d" / "loras").glob("personalised_4d_*_steps_*.safetensors"))
    same = [demo.only(demo.smoke(PERSONAL, **{"Personal model": {"strength_model": 0.0}, "Optimize stage 1": {"seed": 77}}), "Optimize stage 1: views x times") for _ in range(2)]
    without = same[1]
    loader = demo.titled(without, "Personal model")
    without[demo.titled(without, "Image, static")]["inputs"]["model"] = without[loader]["inputs"]["model"]
    first, second = (Image.open(io.BytesIO(demo_server.view(demo_server.run(prompt).outputs[demo.titled(prompt, "Optimize stage 1: views x times")]["images"][0]))) for prompt in same)
    assert first.tobytes() == second.tobytes()  # the files differ: each holds its prompt


def picture(demo_server, name: str, values: torch.Tensor):
    """Put a picture (H, W, 3) in [0, 1] into the host's input folder."""
    folder = demo_server.base / "input"
    folder.mkdir(exist_ok=True)
    Image.fromarray((values * 255).byte().numpy()).save(folder / name)


def with_picture(name: str) -> dict:
    """The image demo up to its still object, with a file in the place of the drawn picture."""
    prompt = demo.smoke(IMAGE)
    prompt[demo.titled(prompt, "Picture")] = {"class_type": "LoadImage", "inputs": {"image": name}, "_meta": {"title": "Picture"}}
    return demo.only(prompt, "Optimize stage 1: views x times")


def test_a_file_takes_the_place_of_the_drawn_picture(demo_server):
    values = torch.ones(80, 80, 3)
    values[20:60, 30:50] = torch.tensor([0.8, 0.1, 0.2])
    picture(demo_server, "flat.png", values)
    assert demo_server.run(with_picture("flat.png")).status == "success"


@pytest.mark.parametrize("name, values, words", [
    ("noise.png", torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(1)), ("no flat background", "Remove Background")),
    ("empty.png", torch.ones(64, 64, 3), ("mask is black", "holds no object")),
])
def test_a_picture_that_holds_no_maskable_object_is_refused_in_one_line(demo_server, name, values, words):
    picture(demo_server, name, values)
    run = demo_server.run(with_picture(name), expect="error")
    line = run.error["exception_message"].strip().splitlines()[0]
    assert all(word in line for word in words), line


def test_a_picture_without_alpha_and_mask_is_refused_in_one_line(demo_server):
    prompt = demo.only(demo.smoke(IMAGE), "Optimize stage 1: views x times")
    del prompt[demo.titled(prompt, "The picture, still")]["inputs"]["mask"]
    run = demo_server.run(prompt, expect="error")
    assert "no alpha and no mask" in run.error["exception_message"].splitlines()[0]
