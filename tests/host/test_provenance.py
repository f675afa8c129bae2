"""What files of a real run say about the prompt that made them, in every format, and what the host's own switch takes away."""

import io
import json
import struct

import av
import demo_workflows as demo
import pytest
import real_host
from PIL import Image
from safetensors import safe_open

WORKFLOW = {"version": 0.4, "nodes": [], "links": [], "extra": {"note": "ein Blühen 花 \"quoted\""}}
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def every_saver(seed: int) -> dict:
    """The results of text to 4D from the field as it begins, so that nothing is optimised: field, video, mesh and picture."""
    prompt = demo.smoke("text_to_4d_demo", Field={"seed": seed}, **{"Mesh of one instant": {"threshold": 0.5}})
    field, pictures = [demo.titled(prompt, "Field"), 0], [demo.titled(prompt, "Render"), 0]
    demo.change(prompt, {title: {"field": field} for title in ("Render", "Mesh of one instant", "Save field")} | {"Save curves": {"images": pictures}})
    return demo.only(prompt, "Save video", "Save mesh", "Save field", "Save curves")


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def safetensors_metadata(path) -> dict:
    with safe_open(path, "pt") as file:
        return file.metadata()


def glb_metadata(path) -> dict:
    content = path.read_bytes()
    length, = struct.unpack("<I", content[12:16])
    return json.loads(content[20 : 20 + length])["asset"].get("extras", {})


def mp4_metadata(path) -> dict:
    with av.open(str(path)) as container:
        return container.metadata


def png_metadata(path) -> dict:
    return Image.open(io.BytesIO(path.read_bytes())).info


READERS = {".safetensors": safetensors_metadata, ".glb": glb_metadata, ".mp4": mp4_metadata, ".png": png_metadata}


def saved(server, run) -> dict:
    """Kind of file -> its metadata, the first of each kind."""
    entries = [entry for output in run.outputs.values() for values in output.values() for entry in values if isinstance(entry, dict) and "filename" in entry]
    paths = sorted(server.base / "output" / entry["subfolder"] / entry["filename"] for entry in entries)
    return {path.suffix: READERS[path.suffix](path) for path in reversed(paths)}


@pytest.fixture(scope="module")
def files(server):
    """Metadata of every kind of file from a run that a browser might have queued."""
    prompt = every_saver(61)
    return prompt, saved(server, server.run(prompt, extra_data={"extra_pnginfo": {"workflow": WORKFLOW}}))


@pytest.mark.parametrize("kind", READERS)
def test_prompt_and_workflow_are_in_the_file(files, kind):
    prompt, found = files
    assert json.loads(found[kind]["prompt"]) == prompt
    assert json.loads(found[kind]["workflow"]) == WORKFLOW


@pytest.mark.parametrize("kind", READERS)
def test_the_file_says_that_a_model_made_it_and_which_pack(files, kind):
    said = json.loads(files[1][kind]["bloom4d"])
    assert said["generator"].startswith("Bloom4D 0.") and said["description"] == "AI-generated" and said["digitalSourceType"] == TERM


def test_our_own_files_say_which_backends_ran(files):
    said = json.loads(files[1][".safetensors"]["bloom4d"])["backends"]
    assert said.startswith("hash grid by ") and "splats by " in said and said.endswith("volume rendering by torch")


def test_a_prompt_without_a_workflow_has_the_rest(server):
    found = saved(server, server.run(every_saver(62)))
    for kind, metadata in found.items():
        assert "workflow" not in metadata and json.loads(metadata["bloom4d"])["digitalSourceType"] == TERM, kind


def test_another_workflow_around_a_prompt_computes_nothing_again(server):
    for number in (1, 2):
        run = server.run(every_saver(64), extra_data={"extra_pnginfo": {"workflow": {**WORKFLOW, "revision": number}}})
    assert run.executed == []


def test_equal_prompts_give_equal_bytes_and_the_field_opens_again(server):
    extra = {"extra_pnginfo": {"workflow": WORKFLOW, "another pack": [1, 2]}}
    written = []
    for _ in range(2):
        prompt = demo.only(every_saver(63), "Save field")
        server.post("/free", {"free_memory": True})  # otherwise the second is cached and nothing is written
        run = server.run(prompt, extra_data=extra)
        written.append(demo.saved_field(run, prompt, server.base))
    assert written[0] != written[1] and written[0].read_bytes() == written[1].read_bytes()
    assert safetensors_metadata(written[0]).keys() == {"bloom4d", "prompt", "workflow", "another pack"}
    again = {"1": node("Bloom4DLoadField", path=written[0].relative_to(server.base / "output").as_posix()), "2": node("Bloom4DSaveField", field=["1", 0], filename_prefix="bloom4d/fields/again")}
    assert server.run(again).status == "success"


@pytest.mark.parametrize("ours, trained", [(node("Bloom4DEnvironment"), False), (node("Bloom4DEmbeddedPriorLoader", prior="embedded_prior.safetensors"), True)])
def test_only_a_prompt_with_a_trained_model_is_called_ai_generated(server, ours, trained):
    picture = node("EmptyImage", width=16, height=16, batch_size=1, color=64 + trained)
    prompt = {"1": picture, "2": node("SaveImage", images=["1", 0], filename_prefix="provenance_drawn"), "3": ours}
    said = json.loads(saved(server, server.run(prompt))[".png"]["bloom4d"])
    assert said["generator"].startswith("Bloom4D") and ("digitalSourceType" in said) == trained


def test_prompts_without_a_node_of_ours_are_not_touched(server):
    prompt = {"1": node("EmptyImage", width=16, height=16, batch_size=1, color=0), "2": node("SaveImage", images=["1", 0], filename_prefix="provenance_other")}
    assert "bloom4d" not in saved(server, server.run(prompt))[".png"]


def test_what_a_client_got_wrong_is_the_hosts_to_answer(server):
    """A handler that raises leaves its name in the log; a 500 would be the host's own, as without us."""
    ours = {"1": {"class_type": "Bloom4DEnvironment", "inputs": {}}}
    for body in ([], {"prompt": []}, {"prompt": {"1": None, **ours}}, {"prompt": {"1": {"class_type": 5}}}, {"prompt": {**ours, "2": {"class_type": ["x"]}}}):
        server.post("/prompt", body)
    assert "mark_prompt" not in server.log
    assert server.run(ours).status == "success"


@pytest.fixture(scope="module")
def silent_server(host_tree, tmp_path_factory):
    from rooms import ROOT

    running = real_host.start(host_tree, real_host.prepare_base(tmp_path_factory.mktemp("silent") / "base", ROOT), ["--disable-metadata"])
    yield running
    running.host.stop()


def test_disable_metadata_wins(silent_server):
    found = saved(silent_server, silent_server.run(every_saver(61), extra_data={"extra_pnginfo": {"workflow": WORKFLOW}}))
    for kind, metadata in found.items():
        assert not {"prompt", "workflow"} & metadata.keys(), kind
    assert "generator" not in json.loads(found[".safetensors"]["bloom4d"])
    assert all("bloom4d" not in found[kind] for kind in (".glb", ".mp4", ".png"))
