"""Host objects are named by content: the same in every process and load state, another for every change that matters."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def identify(comfy):
    from bloom4d.nodes.host.identity import identify

    return identify


def lora(model, strength=1.0, seed=0):
    """The model with a patch on one weight, as a LoRA loader makes it."""
    changed = model.clone()
    name, weight = next((name, value) for name, value in model.model.state_dict().items() if value.ndim == 2)
    difference = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    changed.add_patches({name: (difference,)}, strength)
    return changed


def test_weights_patches_and_settings_count(identify, synthetic):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    model = synthetic.image_model("eps")

    def rescaled(factor):
        changed = model.clone()
        changed.set_model_sampler_cfg_function(lambda arguments: arguments["cond"] * factor)
        return changed

    def optioned(value):
        changed = model.clone()
        changed.model_options.setdefault("transformer_options", {})["strength"] = value
        return changed

    names = [
        identify(model),
        identify(synthetic.image_model("eps", seed=1)),
        identify(synthetic.image_model("v")),
        identify(lora(model)), identify(lora(model, 0.5)), identify(lora(model, seed=1)),
        identify(ModelSamplingDiscrete().patch(model, "v_prediction", False)[0]),
        identify(ModelSamplingDiscrete().patch(model, "v_prediction", True)[0]),
        identify(rescaled(0.5)), identify(rescaled(0.6)),
        identify(optioned(1)), identify(optioned(2)),
        identify(synthetic.kl_vae().first_stage_model), identify(synthetic.kl_vae(1).first_stage_model),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert identify(synthetic.image_model("eps")) == names[0] == identify(model.clone())


def test_loading_and_sampling_change_nothing(identify, synthetic):
    from bloom4d.nodes.host.score import ScoreSession

    model = lora(synthetic.image_model("eps"))
    before = identify(model)
    with ScoreSession(model, synthetic.conditioning(1), synthetic.conditioning(2)) as session:
        session.both(torch.zeros(1, 3, 16, 16), 1.0)
        assert identify(model) == before  # the LoRA is merged into the weights now
    assert identify(model) == before


def test_a_vae_keeps_its_name_when_the_host_loads_it(identify, synthetic):
    import comfy.model_management

    vae = synthetic.kl_vae()
    before = identify(vae.first_stage_model), identify(vae.patcher)
    comfy.model_management.load_models_gpu([vae.patcher])
    assert (identify(vae.first_stage_model), identify(vae.patcher)) == before
    assert identify(synthetic.kl_vae(1).patcher) != before[1]


def test_prompts_count_to_the_last_bit(identify, synthetic):
    text = synthetic.conditioning(1)
    other = [[text[0][0].clone(), dict(text[0][1])]]
    assert identify(other) == identify(text)
    other[0][0][0, 0, 0] += 1e-6
    marked = [[text[0][0], {**text[0][1], "strength": 0.5}]]
    assert len({identify(text), identify(other), identify(marked), identify(text + text), identify([])}) == 5


def test_controlnets_count_by_hint_and_strength(identify, synthetic):
    from comfy.controlnet import ControlNet

    def control(hint, strength, seed=0):
        network = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(network.weight, seed), torch.nn.init.zeros_(network.bias)
        made = ControlNet(network)
        made.set_cond_hint(torch.full((1, 3, 4, 4), hint), strength, (0.0, 1.0))
        return [[synthetic.conditioning(1)[0][0], {"control": made}]]

    used = control(0.5, 1.0)
    used[0][1]["control"].cond_hint = torch.ones(1)  # what a run leaves behind
    names = [identify(control(*values)) for values in ((0.5, 1.0), (0.6, 1.0), (0.5, 0.9), (0.5, 1.0, 1))]
    assert len(set(names)) == 4 and identify(used) == names[0]


PROGRAM = """
import os, sys
sys.path[:0] = {paths!r}
sys.argv = ["x", "--cpu"]
import compat, pack
pack.load_pack()
if compat.needed():
    compat.apply()
import comfy.options
comfy.options.enable_args_parsing()
import comfy.sd, torch, synthetic
from bloom4d.nodes.host.identity import identify
with torch.inference_mode():
    print(identify(synthetic.image_model("eps"), synthetic.kl_vae().first_stage_model, synthetic.conditioning(1)))
"""


def test_another_process_finds_the_same_name(identify, synthetic, host_tree):
    tests = Path(__file__).resolve().parent.parent
    paths = [str(tests.parent / "tools"), str(tests), str(host_tree)]
    there = subprocess.run([sys.executable, "-c", PROGRAM.format(paths=paths)], capture_output=True, text=True)
    assert there.returncode == 0, there.stderr
    here = identify(synthetic.image_model("eps"), synthetic.kl_vae().first_stage_model, synthetic.conditioning(1))
    assert there.stdout.split()[-1] == here
