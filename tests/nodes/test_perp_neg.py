"""Perp-Neg through the host: several prompts in one call, against the host's own guider, and as a node on a guidance term."""

import pytest
import torch
from test_field_nodes import call, nodes, optimise, oracle_model, output, same, state, tiny_field  # noqa: F401  (fixtures)

SHAPE = (1, 3, 16, 16)


@pytest.fixture(scope="module")
def losses(comfy):
    from bloom4d.nodes import guidance_losses

    return guidance_losses


@pytest.fixture(scope="module")
def host(comfy):
    from bloom4d.nodes.host import adapter, score

    return score.ScoreSession, adapter.HostPrior


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_one_call_gives_all_estimates_and_the_hosts_own_perp_neg_guider_agrees(synthetic, host, kind):
    import comfy.samplers
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    from bloom4d.models.guidance.noise import guided_apart

    model = synthetic.image_model(kind)
    positive, empty, negative = (synthetic.conditioning(seed) for seed in (1, 2, 3))
    guider = Guider_PerpNeg(model)
    guider.set_conds(positive, negative, empty)
    guider.set_cfg(4.0, 0.7)
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.tensor([float(sampling.percent_to_sigma(0.4)), 0.0])
    seen = []
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    sampler = comfy.samplers.sampler_object("euler")
    guider.sample(noise, torch.zeros(SHAPE), sampler, sigmas, callback=lambda i, denoised, x, total: seen.append((x.clone(), denoised.clone())), disable_pbar=True, seed=0)
    x, expected = seen[0]
    with host[0](model, positive, empty, beside=[negative]) as session:
        conditional, free, others = session.apart(x, sigmas[0])
        assert [weight for weight, _ in others] == [1.0]
        assert (guided_apart(conditional, free, others, 4.0, 0.7) - expected).abs().max() < 1e-4
        assert (free + 4.0 * (conditional - free) - expected).abs().max() > 1e-2
        both = session.both(x, sigmas[0])
        assert torch.allclose(both[0], conditional, atol=1e-5) and torch.allclose(both[1], free, atol=1e-5)
    with host[0](model, positive, negative) as alone:
        assert torch.allclose(alone.both(x, sigmas[0])[1], others[0][1], atol=1e-5)  # it is that prompt's own estimate


def test_every_entry_is_a_prompt_of_its_own_with_its_strength(synthetic, host):
    model = synthetic.image_model()
    positive, empty, one, two = (synthetic.conditioning(seed) for seed in (1, 2, 3, 4))
    weighted = [[two[0][0], {**two[0][1], "strength": 0.4}]]
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    with host[0](model, positive, empty, beside=[one + weighted]) as session:
        _, _, others = session.apart(x, 2.0)
    assert [weight for weight, _ in others] == [1.0, 0.4]
    for negative, (_, estimate) in zip((one, two), others):
        with host[0](model, positive, negative) as alone:
            assert torch.allclose(alone.both(x, 2.0)[1], estimate, atol=1e-5)
    assert (others[0][1] - others[1][1]).abs().max() > 1e-3


def test_negative_prompts_follow_the_view(synthetic, host):
    model, vae = synthetic.image_model(), synthetic.pixel_vae()
    plain, empty, negative, behind = (synthetic.conditioning(seed) for seed in (1, 2, 3, 4))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    sigma = torch.tensor([2.0, 2.0])
    with host[1](model, vae, [plain], empty, size=(16, 16), negatives=(negative, negative, behind, negative)) as prior:
        conditional, _, others = prior.denoise_apart(x, sigma, text=[1, 2])  # front and back
    with host[1](model, vae, [plain], negative, size=(16, 16)) as prior:
        expected = prior.denoise(x, sigma)
        assert torch.allclose(conditional, expected[0], atol=1e-5) and torch.allclose(others[0][1][:1], expected[1][:1], atol=1e-5)
        assert (others[0][1][1:] - expected[1][1:]).abs().max() > 1e-3
    with host[1](model, vae, [plain], behind, size=(16, 16)) as prior:
        assert torch.allclose(others[0][1][1:], prior.denoise(x, sigma)[1][1:], atol=1e-5)


def sds(nodes, synthetic, **changes):  # noqa: F811
    common = {"model": synthetic.image_model(), "vae": synthetic.pixel_vae(), "positive": synthetic.conditioning(1), "negative": synthetic.conditioning(3)}
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=2)[0]
    return call(nodes["guidance"].Bloom4DSDSGuidance, cameras=cameras, **common, width=16, height=16, model_size=16, guidance_scale=5.0, **changes)[0]


def test_the_node_changes_the_result_and_bypassing_it_does_not(nodes, losses, synthetic, output):  # noqa: F811
    term, empty = sds(nodes, synthetic), synthetic.conditioning(2)
    apart = call(losses.Bloom4DPerpNeg, guidance=term, unconditional=empty)[0]
    assert apart.term.objective.perp_neg == 1.0 and term.term.objective.perp_neg == 0.0 and apart.source.identity() != term.source.identity()

    def result(guidance):
        stage = call(nodes["optimize"].Bloom4DStage, terms={"term0": guidance})[0]
        return state(optimise(nodes, tiny_field(nodes), stage, steps=3)[0])

    with_it, without = result(apart), result(term)
    assert not same(with_it, without) and same(result(sds(nodes, synthetic)), without)
    off = call(losses.Bloom4DPerpNeg, guidance=term, unconditional=term.source.negative, strength=0.0)[0]
    assert same(result(off), without)
    behind = call(losses.Bloom4DPerpNeg, guidance=term, unconditional=empty, negative_back=synthetic.conditioning(9))[0]
    assert not same(result(behind), with_it)


def test_of_vsd_the_frozen_model_alone_is_asked_so(nodes, losses, synthetic, output, monkeypatch):  # noqa: F811
    from bloom4d.nodes import guidance_vsd
    from bloom4d.nodes.host.variational import HostPhi

    common = {"model": synthetic.image_model(), "vae": synthetic.pixel_vae(), "positive": synthetic.conditioning(1), "negative": synthetic.conditioning(3)}
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=2)[0]
    term = call(guidance_vsd.Bloom4DVSDGuidance, cameras=cameras, **common, width=16, height=16, model_size=16, guidance_scale=5.0)[0]
    apart = call(losses.Bloom4DPerpNeg, guidance=term, unconditional=synthetic.conditioning(2))[0]
    asked, denoise = [], HostPhi.denoise
    monkeypatch.setattr(HostPhi, "denoise", lambda phi, z, *rest: asked.append(denoise(phi, z, *rest)) or asked[-1])

    def result(guidance):
        stage = call(nodes["optimize"].Bloom4DStage, terms={"term0": guidance})[0]
        return state(optimise(nodes, tiny_field(nodes), stage, steps=1)[0])

    assert not same(result(apart), result(term))
    assert len(asked) == 2 and torch.equal(*asked)  # the same question to phi in both


def test_a_term_without_prompts_is_refused_in_one_line(nodes, losses, synthetic):  # noqa: F811
    from dataclasses import replace

    term = sds(nodes, synthetic)
    with pytest.raises(ValueError, match='Perp-Neg needs a term with prompts, and "image" has none'):
        call(losses.Bloom4DPerpNeg, guidance=replace(term, source=None), unconditional=synthetic.conditioning(2))
