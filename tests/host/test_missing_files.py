"""A shared graph where something is missing: the host says which file, where it belongs, its licence and its source, and goes on."""

import client
import demo_workflows as demo
import pytest

ENVIRONMENT = {"1": {"class_type": "Bloom4DEnvironment", "inputs": {}, "_meta": {"title": "Versions"}}}


@pytest.mark.parametrize("name", [name for name in demo.NAMES if "Bloom4DEmbeddedPriorLoader" in demo.classes(demo.load(name))])
def test_a_shipped_workflow_without_its_weights(bare_server, name):
    run = bare_server.run(demo.load(name), expect="error")
    line = run.error["exception_message"].splitlines()[0]
    folder = bare_server.base / "custom_nodes" / "bloom4d" / "models" / "weights"
    assert run.error["node_id"] == demo.titled(demo.load(name), "Prior")
    assert line.startswith("The file embedded_prior.safetensors is missing from") and str(folder) in line
    assert "Apache-2.0" in line and "reinstall the pack" in line and "https://" in line
    assert bare_server.run(ENVIRONMENT).status == "success", "the queue goes on"


def test_metrics_without_the_recogniser_leave_its_scores_out_and_say_so(bare_server):
    prompt = demo.smoke("four_d_metrics_demo")
    run = bare_server.run(prompt)
    texts = ["\n".join(run.outputs[demo.titled(prompt, title)]["text"]) for title in demo.of_class(prompt, "Bloom4DMetrics")]
    assert sum("The file recogniser.safetensors is missing from" in text and "Apache-2.0" in text for text in texts) == len(texts)


@pytest.mark.parametrize("wrong", ["my_better_prior.safetensors", "../../embedded_prior.safetensors", "", 5])
def test_a_graph_that_names_a_prior_which_nobody_has(demo_server, wrong):
    prompt = demo.smoke("text_to_4d_demo", Prior={"prior": wrong})
    answer = demo_server.reject(prompt)
    error, = answer["node_errors"][demo.titled(prompt, "Prior")]["errors"]
    for part in (f"There is no prior file {wrong}.", str(demo_server.base / "models" / "bloom4d"), "press R", "embedded_prior.safetensors", "licence"):
        assert part in error["details"]
    assert str(wrong) in client.explain_rejection(answer, prompt), "the command line says it too"
    assert demo_server.run(ENVIRONMENT).status == "success"


def test_a_prior_that_is_put_there_is_found_without_a_restart(demo_server):
    prompt = demo.only(demo.smoke("embedded_prior_sampling_demo"), "Image: save")
    demo.change(prompt, {"Prior": {"prior": "arrived.safetensors"}})
    demo_server.reject(prompt)
    folder = demo_server.base / "models" / "bloom4d"
    (folder / "arrived.safetensors").write_bytes((folder / demo.PRIOR).read_bytes())
    assert demo_server.run(prompt).status == "success"


@pytest.mark.parametrize(("loader", "values", "parts"), [
    ("Bloom4DMVDreamLoader", {}, ("sd-v2.1-base-4view.pt", "CreativeML Open RAIL-M", "huggingface.co/MVDream/MVDream")),
    ("Bloom4DZero123Loader", {"version": "by the file's name"}, ("zero123-xl.ckpt", "MIT", "zero123.cs.columbia.edu")),
])
def test_a_graph_that_names_a_checkpoint_which_nobody_has(demo_server, loader, values, parts):
    prompt = {
        "1": {"class_type": loader, "inputs": {"checkpoint": "not_here.safetensors", **values}, "_meta": {"title": "Prior"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}, "_meta": {"title": "Empty"}},
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}, "_meta": {"title": "Decode"}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}, "_meta": {"title": "Preview"}},
    }
    error, = demo_server.reject(prompt)["node_errors"]["1"]["errors"]
    for part in ("There is no checkpoint not_here.safetensors.", str(demo_server.base / "models" / "checkpoints"), "press R", *parts):
        assert part in error["details"]
    assert demo_server.run(ENVIRONMENT).status == "success", "the queue goes on"
