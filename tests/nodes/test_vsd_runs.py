"""VSD through its nodes: phi is exported, resumed, handed on, and every setting of it counts."""

import math
from dataclasses import replace

import pytest
import torch
from test_field_nodes import call, optimise, output, tiny_field  # noqa: F401
from test_vsd import SHAPE, Interrupted, estimate, guidance, host, left_behind, nodes, phi_of, randn, shown, train, views  # noqa: F401


def test_phi_is_exported_as_a_lora_that_the_host_applies(host, nodes, synthetic, output):  # noqa: F811
    import comfy.sd
    import comfy_extras.nodes_train as host_nodes
    from safetensors.torch import load_file

    from bloom4d.models.optimize.scene import Scene

    model = synthetic.image_model("v")
    z, sigma = randn(*SHAPE), torch.tensor([0.3, 0.8])
    with torch.inference_mode(False), torch.enable_grad(), phi_of(host, synthetic, model, rate=1e-2, camera=False) as phi:
        train(phi, randn(*SHAPE, seed=5), steps=4)
        wanted = phi.denoise(z, sigma, views(), 1.0)
        base = estimate(synthetic, model, z, sigma)
    learned = {name: value.detach().clone() for name, value in phi.named_parameters()} | {"camera.first.weight": torch.ones(4, 16)}
    scene = Scene(tiny_field(nodes).field, (), {"VSD": learned})
    lora, steps = call(nodes["guidance_vsd"].Bloom4DLearnedLoRA, field=scene)
    assert steps == 0 and len(lora) == 3 * len(phi.layers)
    with torch.inference_mode():
        loaded, = host_nodes.LoraModelLoader.execute(model, lora, 1.0).result
        host_nodes.SaveLoRA.execute(lora, "loras/phi", steps)
    found = estimate(synthetic, loaded, z, sigma)
    assert (found - wanted).abs().max() < 1e-4 and (wanted - base).abs().max() > 1e-2
    again = load_file(output / "loras" / "phi_0_steps_00001_.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in lora.items())
    assert not any(key.startswith("camera") for key in lora)


def test_what_the_lora_node_refuses(nodes):
    scene = tiny_field(nodes)
    with pytest.raises(ValueError, match="has learned no LoRA. Connect a field"):
        call(nodes["guidance_vsd"].Bloom4DLearnedLoRA, field=scene)
    part = {"net.up": torch.zeros(3, 2), "net.down": torch.zeros(2, 3)}
    two = replace(scene, learned={"VSD": part, "VSD 2": part})
    with pytest.raises(ValueError, match="meant: VSD, VSD 2"):
        call(nodes["guidance_vsd"].Bloom4DLearnedLoRA, field=two)
    assert call(nodes["guidance_vsd"].Bloom4DLearnedLoRA, field=two, term="VSD 2")[0].keys() == {"net.lora_up.weight", "net.lora_down.weight", "net.alpha"}


def vsd_stage(nodes, synthetic, **changes):
    return call(nodes["optimize"].Bloom4DStage, terms={"term0": guidance(nodes, synthetic, synthetic.image_model(), **changes)}, rate_dynamic=0.02)[0]


def test_a_stage_learns_resumes_and_hands_on(nodes, synthetic, output, monkeypatch):  # noqa: F811
    """Through the optimiser's node: 2 + 2 steps are 4, the field carries phi, a file keeps it, and the next stage goes on with it."""
    from bloom4d.nodes.host.progress import HostCallback

    def stop(callback, done, text, preview):
        if done == 2:
            raise Interrupted

    stage = vsd_stage(nodes, synthetic, lora_rate=1e-2)
    field = tiny_field(nodes)
    whole = optimise(nodes, field, stage, steps=4, filename_prefix="whole")[0]
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(HostCallback, "__call__", stop)
        optimise(nodes, field, stage, steps=4, filename_prefix="broken")
    found, = (output / "bloom4d" / "runs" / "broken").rglob("step_*.safetensors")
    assert found.stem == "step_00000002"
    rest = optimise(nodes, field, stage, steps=4, filename_prefix="broken")[0]
    assert all(torch.equal(value, rest.learned["VSD"][name]) for name, value in whole.learned["VSD"].items())
    assert all(torch.equal(value, rest.field.state_dict()[name]) for name, value in whole.field.state_dict().items())
    assert sum(float(value.norm()) for name, value in whole.learned["VSD"].items() if name.endswith(".up")) > 0
    path, = call(nodes["files"].Bloom4DSaveField, field=whole)
    loaded, = call(nodes["files"].Bloom4DLoadField, path=path)
    assert all(torch.equal(value, loaded.learned["VSD"][name]) for name, value in whole.learned["VSD"].items())
    later = optimise(nodes, loaded, vsd_stage(nodes, synthetic, lora_rate=0.0), steps=1)[0]  # frozen: what it begins with is what it ends with
    assert all(torch.equal(value, later.learned["VSD"][name]) for name, value in whole.learned["VSD"].items())
    assert [call(nodes["guidance_vsd"].Bloom4DLearnedLoRA, field=scene)[1] for scene in (whole, later)] == [4, 5]


def test_the_embedded_prior_carries_phi(nodes, synthetic, output, tmp_path):  # noqa: F811
    """Its own cameras and times reach both; a joint scene of two views is one sample."""
    import nodes as host_nodes
    from prior_fixtures import write_untrained_prior

    from bloom4d.nodes.host.prior import load_clip, load_model, load_vae

    file = str(write_untrained_prior(tmp_path / "prior.safetensors"))
    model, clip, vae = load_model(file), load_clip(file), load_vae(file)
    text = host_nodes.CLIPTextEncode().encode(clip, "a rose")[0]
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=2)[0]
    made = call(nodes["guidance_vsd"].Bloom4DVSDGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras, width=16, height=16, guidance_scale=1.0, lora_rate=1e-3, noise_level="per scene")[0]
    stage = call(nodes["optimize"].Bloom4DStage, terms={"term0": made})[0]
    scene = optimise(nodes, tiny_field(nodes), stage, steps=2)[0]
    losses = scene.history[0].columns["loss"]
    assert scene.history[0].terms == ("VSD",)
    assert losses[0] == 0.0 and losses[1] > 0.0  # phi is the prior until it has learned
    assert "camera.last.weight" in scene.learned["VSD"] and scene.learned["VSD"]["camera.last.weight"].abs().max() > 0
    assert left_behind(model) == []


def test_perp_neg_reaches_the_frozen_prior_only(nodes, synthetic):
    made = guidance(nodes, synthetic, synthetic.image_model())
    changed = call(nodes["guidance_losses"].Bloom4DPerpNeg, guidance=made, unconditional=synthetic.conditioning(9))[0]
    norms = []
    for one in (made, changed):
        with torch.inference_mode(False), torch.enable_grad(), one.source.open() as judge:
            norms.append(one.term.objective.evaluate(shown(), judge, 0, 10, (1, 2)).gradient_norm)
    assert changed.term.objective.perp_neg == 1.0 and math.isfinite(norms[1]) and norms[0] != norms[1]


def test_every_setting_of_phi_tells_runs_apart(nodes, synthetic):
    model = synthetic.image_model()
    settings = [{}, {"lora_rank": 5}, {"lora_rate": 2e-4}, {"camera_condition": False}, {"phi_model": synthetic.image_model("v")}]
    assert len({guidance(nodes, synthetic, model, **change).source.identity() for change in settings}) == len(settings)
    assert guidance(nodes, synthetic, model, phi_samples=3, phi_guidance=2.0).term.objective != guidance(nodes, synthetic, model).term.objective
