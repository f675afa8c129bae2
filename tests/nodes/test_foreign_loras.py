"""LoRAs for another base model, through the host's own loaders: told where a part fits, refused where nothing does."""

from types import SimpleNamespace

import pytest
import torch
from test_bad_models import guidance, host_models, video_cameras  # noqa: F401  (fixtures)

ATTENTION = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")


def rand(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.1


def lora_for(model, text: int | None = None, rank: int = 2) -> dict:
    """A LoRA on every attention of `model`, in the names of Save LoRA; `text`: made for a model that reads text of this width."""
    made = {}
    for name, weight in model.model.diffusion_model.state_dict().items():
        if name.endswith(ATTENTION):
            rows, columns = weight.shape
            columns = text if text and "attn2" in name and name.endswith(ATTENTION[1:3]) else columns
            made[f"diffusion_model.{name.removesuffix('.weight')}.lora_up.weight"] = rand(rows, rank)
            made[f"diffusion_model.{name.removesuffix('.weight')}.lora_down.weight"] = rand(rank, columns)
    return made


def with_lora(model, lora, strength=1.0):
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0)[0]


def merged(model, key: str) -> bool:
    """Whether the host's own arithmetic changes the weight."""
    import comfy.lora

    weight = model.model.state_dict()[key].float().clone()
    return not torch.equal(comfy.lora.calculate_weight(model.patches[key], weight.clone(), key), weight)


def notes(model, hidden=None, socket="model"):
    from bloom4d.nodes.host.loras import lora_notes

    return lora_notes(hidden, model, socket)


def test_a_lora_of_stable_diffusion_1_on_2_is_counted_as_the_host_applies_it(host_models):  # noqa: F811
    """The names are the same, and whatever reads text is of another width: 768 and 1024, here 24 and 32."""
    model = with_lora(host_models.sd21(), lora_for(host_models.sd21(), text=24))
    lost = [key for key in model.patches if not merged(model, key)]
    assert lost and all(".attn2.to_k" in key or ".attn2.to_v" in key for key in lost) and len(lost) < len(model.patches)
    told, = notes(model)
    assert told.startswith(f"{len(lost)} of {len(model.patches)} weights of the LoRA do not fit this MODEL (BaseModel, text of 32 numbers): ")
    assert " x 24 in the LoRA and " in told and " x 32 here. The others are applied. It was made for another base model" in told
    assert notes(with_lora(host_models.sd21(), lora_for(host_models.sd21()))) == (), "its own LoRA is not spoken of"


def test_where_nothing_fits_the_node_refuses(host_models):  # noqa: F811
    only_text = {name: value for name, value in lora_for(host_models.sd21(), text=24).items() if ".attn2.to_k" in name}
    model = with_lora(host_models.sd21(), only_text)
    assert model.patches and not any(merged(model, key) for key in model.patches)
    with pytest.raises(ValueError, match=rf"^None of the {len(model.patches)} weights of the LoRA fits this MODEL \(BaseModel, text of 32 numbers\): .* use a LoRA made for this one"):
        notes(model)


def test_a_trained_lora_from_a_socket_is_compared_too(host_models):  # noqa: F811
    from comfy_extras.nodes_train import LoraModelLoader

    model, = LoraModelLoader.execute(host_models.sd21(), lora_for(host_models.sd21(), text=24), 1.0).result
    assert "do not fit this MODEL" in notes(model)[0]
    nothing, = LoraModelLoader.execute(host_models.sd21(), {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": rand(8, 2)}, 1.0).result
    prompt = {"c": {"class_type": "CheckpointLoaderSimple", "inputs": {}}, "l": {"class_type": "LoraModelLoader", "inputs": {"model": ["c", 0], "lora": ["t", 0], "strength_model": 1.0}}, "g": {"class_type": "x", "inputs": {"model": ["l", 0]}}}
    with pytest.raises(ValueError, match="No weight of this MODEL .BaseModel. is changed by the connected LoRA"):
        notes(nothing, SimpleNamespace(prompt=prompt, unique_id="g"))


def test_beside_the_weights_one_that_does_not_fit_is_enough(host_models):  # noqa: F811
    """In bypass the host multiplies at every call, and a matrix of another shape ends the run in the middle."""
    from comfy_extras.nodes_train import LoraModelLoader

    own, foreign = ({name: value for name, value in lora_for(host_models.sd21(), text).items()} for text in (None, 24))
    model, = LoraModelLoader.execute(host_models.sd21(), own, 1.0, True).result
    assert model.injections and not model.patches and notes(model) == ()
    model, = LoraModelLoader.execute(host_models.sd21(), foreign, 1.0, True).result
    with pytest.raises(ValueError, match=r"^\d+ of \d+ weights of the LoRA do not fit this MODEL .* 32 here. It was made for another base model"):
        notes(model)
    model.set_injections("somebody's", [type("Injection", (), {"inject": print, "eject": print})()])
    model.remove_injections("bypass_lora")
    assert notes(model) == (), "an injection of another kind"


KINDS = {
    "lora": lambda rows, columns: {"x.lora_up.weight": rand(rows, 2), "x.lora_down.weight": rand(2, columns)},
    "loha": lambda rows, columns: {"x.hada_w1_a": rand(rows, 2), "x.hada_w1_b": rand(2, columns), "x.hada_w2_a": rand(rows, 2, seed=1), "x.hada_w2_b": rand(2, columns, seed=1)},
    "lokr": lambda rows, columns: {"x.lokr_w1": rand(2, 2), "x.lokr_w2": rand(rows // 2, columns // 2)},
    "lokr in factors": lambda rows, columns: {"x.lokr_w1_a": rand(2, 1), "x.lokr_w1_b": rand(1, 2), "x.lokr_w2_a": rand(rows // 2, 2), "x.lokr_w2_b": rand(2, columns // 2)},
    "oft": lambda rows, columns: {"x.oft_blocks": rand(rows // 2, 2, 2)},
    "boft": lambda rows, columns: {"x.oft_blocks": rand(1, rows // 2, 2, 2), "x.alpha": torch.tensor(1.0)},
    "difference": lambda rows, columns: {"x.diff": rand(rows, columns)},
}
CONVOLUTIONS = {
    "lora": lambda rows, columns: {"x.lora_up.weight": rand(rows, 2, 1, 1), "x.lora_down.weight": rand(2, columns, 3, 3)},
    "lora with a middle": lambda rows, columns: {"x.lora_up.weight": rand(rows, 2, 1, 1), "x.lora_down.weight": rand(2, columns, 1, 1), "x.lora_mid.weight": rand(2, 2, 3, 3)},
    "loha with cores": lambda rows, columns: {"x.hada_w1_a": rand(2, rows), "x.hada_w1_b": rand(2, columns), "x.hada_w2_a": rand(2, rows, seed=1), "x.hada_w2_b": rand(2, columns, seed=1), "x.hada_t1": rand(2, 2, 3, 3), "x.hada_t2": rand(2, 2, 3, 3)},
    "lokr": lambda rows, columns: {"x.lokr_w1": rand(2, 2), "x.lokr_w2": rand(rows // 2, columns // 2, 3, 3)},
}


@pytest.mark.parametrize(("kind", "size"), [(kind, (8, 6)) for kind in KINDS] + [(kind, (8, 6, 3, 3)) for kind in CONVOLUTIONS])
def test_every_form_of_patch_is_judged_as_the_host_adds_it(comfy, kind, size):
    """The oracle is the host: a weight that its `calculate_weight` leaves as it was did not take the patch."""
    import comfy.lora

    from bloom4d.nodes.host.loras import fits

    outcomes = []
    for rows, columns in ((8, 6), (8, 10), (12, 6)):
        patch = comfy.lora.load_lora((KINDS if len(size) == 2 else CONVOLUTIONS)[kind](rows, columns), {"x": "x.weight"})["x.weight"]
        weight = rand(*size, seed=3)
        after = comfy.lora.calculate_weight([(1.0, patch, 1.0, None, None)], weight.clone(), "x.weight")
        outcomes.append(after is not None and not torch.equal(after, weight))
        assert fits(patch, size) == outcomes[-1], (rows, columns)
    assert outcomes[0] and not outcomes[2]


def test_a_part_of_a_fused_weight_and_a_weight_in_four_bits(host_models):  # noqa: F811
    """Flux keeps q, k and v in one weight, of which a LoRA changes a third; and what is stored in bytes has no shape to compare."""
    import comfy.lora

    model = host_models.sd21()
    key = next(key for key in model.model.state_dict() if key.endswith("ff.net.0.proj.weight"))
    rows, columns = model.model.state_dict()[key].shape
    patch = comfy.lora.load_lora(KINDS["lora"](rows // 4, columns), {"x": key})[key]
    part = model.clone()
    part.add_patches({(key, (0, rows // 4, rows // 4)): patch})
    assert notes(part) == () and merged(part, key)
    whole = model.clone()
    whole.add_patches({key: patch})
    with pytest.raises(ValueError, match="None of the 1 weights"):
        notes(whole)
    whole.model_state_dict = lambda: {key: torch.zeros(7, 1, dtype=torch.uint8)}
    assert notes(whole) == ()


def prompt_with(*loras: dict, kind="LoraLoaderModelOnly") -> dict:
    """A prompt: checkpoint, LoRA loaders in a row, a guidance node "g"."""
    nodes = {"c": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x"}}}
    for number, values in enumerate(loras):
        nodes[f"l{number}"] = {"class_type": kind, "inputs": {"model": [f"l{number - 1}" if number else "c", 0], **values}}
    nodes["g"] = {"class_type": "Bloom4DSDSGuidance", "inputs": {"model": [f"l{len(loras) - 1}" if loras else "c", 0]}}
    return nodes


FLUX, OTHER = {"lora_name": "flux_style.safetensors", "strength_model": 1.0}, {"lora_name": "other.safetensors"}


def test_a_lora_of_another_architecture(host_models):  # noqa: F811
    """Its names are others, so that nothing is patched: refused behind a loader for MODELs alone, told where it may be there for the CLIP."""
    def said(model, *loras, node="g", **kind):
        return notes(model, SimpleNamespace(prompt=prompt_with(*loras, **kind), unique_id=node))

    foreign = {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.ones(8, 2), "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(2, 8)}
    model = host_models.sd21()
    patched, untouched = with_lora(model, lora_for(model)), with_lora(model, foreign)
    line = "No weight of this MODEL (BaseModel) is changed by flux_style.safetensors: made for another base model. Choose a LoRA for this one, or remove the loader."
    with pytest.raises(ValueError) as refusal:
        said(untouched, FLUX)
    assert str(refusal.value) == line and said(untouched, FLUX, kind="LoraLoader") == (line,)
    assert said(untouched, FLUX, kind="NunchakuFluxLoraLoader") == (line,), "a loader that may work in its own way"
    with pytest.raises(ValueError, match="other.safetensors, flux_style.safetensors"):
        said(untouched, FLUX, OTHER)
    for silent in (said(patched, FLUX), said(untouched), said(untouched, {**FLUX, "strength_model": 0}), said(untouched, FLUX, node="elsewhere"), notes(untouched)):
        assert silent == ()


def test_a_loop_of_links_ends(comfy):
    from bloom4d.nodes.host.loras import upstream

    looped = {"a": {"inputs": {"model": ["b", 0]}}, "b": {"inputs": {"model": ["a", 0]}}}
    assert upstream(looped, "a") == [looped["b"]]


@pytest.mark.parametrize("kind", ["Bloom4DSDSGuidance", "Bloom4DMultiViewGuidance", "Bloom4DVideoSDSGuidance", "Bloom4DVSDGuidance", "Bloom4DVideoRefinementLoss"])
def test_every_guidance_node_compares(host_models, kind):  # noqa: F811
    from bloom4d.nodes import guidance as plain, guidance_losses, guidance_vsd

    node = next(getattr(module, kind) for module in (plain, guidance_vsd, guidance_losses) if hasattr(module, kind))
    lora = lora_for(host_models.sd21(), text=24)
    nothing = with_lora(host_models.sd21(), {name: value for name, value in lora.items() if ".attn2.to_k" in name})
    part = with_lora(host_models.sd21(), lora)
    cameras = video_cameras(2, 1) if "Video" in kind else video_cameras(1, 2)
    with pytest.raises(ValueError, match="^None of the .* use a LoRA made for this one"):
        guidance(node, host_models, model=nothing, cameras=cameras)
    said = guidance(node, host_models, model=part, cameras=cameras).source.notes()
    assert sum("do not fit this MODEL" in line for line in said) == 1
    if "VSD" in kind:
        with pytest.raises(ValueError, match="^None of the"):
            guidance(node, host_models, cameras=cameras, phi_model=nothing)
        said = guidance(node, host_models, cameras=cameras, phi_model=part).source.notes()
        assert sum("do not fit this MODEL" in line for line in said) == 1
