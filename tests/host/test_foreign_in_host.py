"""Zeroscope and models in unusual places, in a real ComfyUI: the files are missing, sampled, and guide; what is odd is said on the node."""

import pytest
import swap_matrix
from safetensors.torch import save_file
from swap_matrix import Graph, Pair, Prior

ZEROSCOPE, PICTURES = "Zeroscope Loader", "Stable Diffusion 2.1"


@pytest.fixture(scope="module")
def foreign_server(comfy, demo_server):
    """The suite's host with Zeroscope's folder, a checkpoint in Stable Diffusion 2.1's layout, and a LoRA for another base."""
    import checkpoints_video
    import synthetic
    import torch

    models = demo_server.base / "models"
    checkpoints_video.write_zeroscope_files(models)
    for folder in ("checkpoints", "loras"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    if not (models / "checkpoints" / "tiny_sd21.safetensors").is_file():
        synthetic.write_sd21_checkpoint(models / "checkpoints" / "tiny_sd21.safetensors")
    down, up = "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"
    save_file({down: torch.ones(2, 8), up: torch.ones(8, 2)}, models / "loras" / "flux_style.safetensors")
    return demo_server


@pytest.fixture
def graph(foreign_server):
    return Graph(foreign_server.get("/object_info"))


def loader(graph, name=ZEROSCOPE) -> str:
    return graph.loader(name)


def texts(run) -> str:
    return "\n".join(line for output in run.outputs.values() for line in output.get("text", ()))


def step(graph, guidance: str, prior: str) -> str:
    """One step of a hash field with one term."""
    return graph.optimise([Pair("Bloom4DHashField", "Bloom4DVolumeRenderer", guidance, Prior(prior, prior, prior))])


def test_a_graph_whose_zeroscope_is_not_there_says_what_to_get(foreign_server, graph):
    node = loader(graph)
    graph.prompt[node]["inputs"]["model"] = "zeroscope_v2_576w/unet/elsewhere.safetensors"
    graph.add("CLIPTextEncode", {"clip": [node, 1], "text": "a rose"})
    graph.add("PreviewAny", {"source": [str(len(graph.prompt)), 0]})
    answer = foreign_server.reject(graph.prompt)
    error, = answer["node_errors"][node]["errors"]
    for words in ('There is no file "zeroscope_v2_576w/unet/elsewhere.safetensors"', str(foreign_server.base / "models" / "diffusion_models"), "CC-BY-NC-4.0", "https://huggingface.co/cerspense/zeroscope_v2_576w"):
        assert words in error["details"]


def test_ksampler_makes_a_clip(foreign_server, graph):
    node = loader(graph)
    words = [graph.add("CLIPTextEncode", {"clip": [node, 1], "text": text}) for text in ("a red rose blooming", "")]
    latent = graph.add("EmptyHunyuanLatentVideo", {"width": 64, "height": 64, "length": 9, "batch_size": 1})
    values = {"seed": 1, "steps": 2, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    sampled = graph.add("KSampler", {**values, "model": [node, 0], "positive": [words[0], 0], "negative": [words[1], 0], "latent_image": [latent, 0]})
    pictures = graph.add("VAEDecode", {"samples": [sampled, 0], "vae": [node, 2]})
    saved = graph.add("PreviewImage", {"images": [pictures, 0]})
    assert len(foreign_server.run(graph.prompt).outputs[saved]["images"]) == 3


@pytest.mark.parametrize(("guidance", "prior", "told"), [
    ("Bloom4DVideoSDSGuidance", ZEROSCOPE, ""),
    ("Bloom4DSDSGuidance", ZEROSCOPE, "ZeroscopeModel judges each picture of the image term as a clip of one frame"),
    ("Bloom4DVideoSDSGuidance", PICTURES, "BaseModel judges each frame of the video term by itself, so that it teaches no motion"),
    ("Bloom4DMultiViewGuidance", PICTURES, "nothing keeps the object's sides apart"),
])
def test_a_model_in_each_place(foreign_server, graph, guidance, prior, told):
    optimiser = step(graph, guidance, prior)
    run = foreign_server.run(graph.prompt)
    assert optimiser in run.executed + list(run.cached)
    assert told in texts(run) and ("judges" in texts(run)) == bool(told)


def test_a_video_model_before_several_views_is_refused(foreign_server, graph):
    step(graph, "Bloom4DVideoSDSGuidance", ZEROSCOPE)
    sampler, = (node for node in graph.prompt.values() if node["class_type"] == "Bloom4DCameraSampler")
    sampler["inputs"]["views"] = 4
    error = foreign_server.run(graph.prompt, expect="error").error["exception_message"]
    assert error.startswith("This MODEL (ZeroscopeModel) judges clips of one camera, and the Camera Sampler has 4 views. Set its views to 1")


def test_a_lora_of_another_architecture_is_refused(foreign_server, graph):
    step(graph, "Bloom4DSDSGuidance", PICTURES)
    (name, node), = ((name, node) for name, node in graph.prompt.items() if node["class_type"] == "Bloom4DSDSGuidance")
    graph.prompt["lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": node["inputs"]["model"], "lora_name": "flux_style.safetensors", "strength_model": 1.0}, "_meta": {"title": "Style"}}
    node["inputs"]["model"] = ["lora", 0]
    error = foreign_server.run(graph.prompt, expect="error").error
    assert error["exception_message"].startswith("No weight of this MODEL (BaseModel) is changed by flux_style.safetensors: made for another base model")


def test_the_matrix_knows_both(graph):
    assert {ZEROSCOPE, PICTURES} <= set(graph.loaders) and swap_matrix.KIN[ZEROSCOPE] == PICTURES
