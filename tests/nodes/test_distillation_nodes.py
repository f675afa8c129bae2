"""Options of the guidance nodes in the host: each changes the result, none by default, and video latents are decoded frame by frame."""

import pytest
import torch
from test_field_nodes import call, nodes, optimise, oracle_model, output, same, state, tiny_field  # noqa: F401  (fixtures)

OPTIONS = {
    "anneal_from": {"anneal_from": 0.5, "t_max_end": 0.3, "anneal_until": 0.5},
    "decoded_weight": {"decoded_weight": 3.0, "weighting": "recon"},
    "denoising_steps": {"denoising_steps": 3},
    "antithetic": {"antithetic": True},
    "skip_azimuth": {"skip_azimuth": 100.0},
    "weight_end": {"weight_end": 5.0},
    "weight_from": {"weight_from": 0.5, "weight_end": 5.0},
    "weight_until": {"weight_until": 0.5, "weight_end": 5.0},
}


def guidance(nodes, oracle_model, kind="Bloom4DSDSGuidance", **changes):  # noqa: F811
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    return call(getattr(nodes["guidance"], kind), model=model, vae=vae, positive=text, negative=text, cameras=cameras, width=16, height=16, **changes)[0]


def result(nodes, term, steps=4):  # noqa: F811
    stage = call(nodes["optimize"].Bloom4DStage, terms={"term0": term})[0]
    return state(optimise(nodes, tiny_field(nodes), stage, steps=steps)[0])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_result(nodes, oracle_model, output, option):  # noqa: F811
    changed = OPTIONS[option]
    others = {name: value for name, value in changed.items() if name != option}
    assert not same(result(nodes, guidance(nodes, oracle_model, **changed)), result(nodes, guidance(nodes, oracle_model, **others)))


def test_graphs_without_the_options_give_what_they_gave(nodes, oracle_model, output):  # noqa: F811
    neutral = {"anneal_from": 0.0, "decoded_weight": 0.0, "denoising_steps": 1, "antithetic": False, "skip_azimuth": 180.0, "weight_end": -1.0, "weight_from": 0.0, "weight_until": 1.0}
    term = guidance(nodes, oracle_model)
    assert same(result(nodes, guidance(nodes, oracle_model, **neutral)), result(nodes, term))
    older = nodes["guidance"].build("image", {name: value for name, value in node_values(nodes, oracle_model).items() if name not in OPTIONS})
    assert older.term == term.term  # of a saved graph that has none of these widgets


def node_values(nodes, oracle_model):  # noqa: F811
    from test_field_nodes import defaults

    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    return {**defaults(nodes["guidance"].Bloom4DSDSGuidance), "model": model, "vae": vae, "positive": text, "negative": text, "cameras": cameras, "width": 16, "height": 16}


def test_the_papers_ranges_can_be_set(nodes, oracle_model):  # noqa: F811
    """4D-fy's image term: the highest level falls to .5 in one step half-way. MVDream: both ends move over 8000 of 10,000 steps."""
    step = guidance(nodes, oracle_model, t_max_end=0.5, anneal_from=0.5, anneal_until=0.5).term.objective.levels
    assert [step.at(k, 10_000) for k in (0, 4999, 5000, 9999)] == [(0.02, 0.98), (0.02, 0.98), (0.02, 0.5), (0.02, 0.5)]
    moving = guidance(nodes, oracle_model, "Bloom4DMultiViewGuidance").term.objective.levels
    assert [moving.at(k, 10_000) for k in (0, 4000, 8000, 9999)] == [pytest.approx(pair) for pair in ((0.98, 0.98), (0.5, 0.74), (0.02, 0.5), (0.02, 0.5))]


WEIGHTED = ("Bloom4DSDSGuidance", "Bloom4DMultiViewGuidance", "Bloom4DVideoSDSGuidance")


@pytest.mark.parametrize("kind", WEIGHTED)
def test_a_terms_weight_moves_inside_its_stage(nodes, oracle_model, kind):  # noqa: F811
    """In a line from `weight` to `weight_end` between the two parts of the stage; below 0 nothing moves."""
    def weights(**values):
        weight = guidance(nodes, oracle_model, kind, weight=2.0, **values).term.weight
        return [weight.at(step, 100) for step in (0, 25, 50, 75, 100)]

    assert weights() == weights(weight_end=-1.0, weight_from=0.2, weight_until=0.3) == [2.0] * 5
    assert weights(weight_end=0.0) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])
    assert weights(weight_end=4.0, weight_from=0.25, weight_until=0.75) == pytest.approx([2.0, 2.0, 3.0, 4.0, 4.0])
    assert weights(weight_end=4.0, weight_from=0.5, weight_until=0.5) == [2.0, 2.0, 4.0, 4.0, 4.0]


class RgbCodec(torch.nn.Module):
    """Pictures in and out of 16 channels at half the size, exactly; it knows no alpha and no time."""

    def __init__(self):
        super().__init__()
        matrix = torch.randn(16, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.register_buffer("matrix", matrix.float())
        self.register_buffer("inverse", torch.linalg.pinv(matrix).float())

    def encode(self, pictures):
        return torch.einsum("oc,bchw->bohw", self.matrix, torch.nn.functional.pixel_unshuffle(pictures, 2))

    def decode(self, latents):
        return torch.nn.functional.pixel_shuffle(torch.einsum("co,bohw->bchw", self.inverse, latents), 2)


def video(nodes, synthetic, **changes):  # noqa: F811
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1, frames=3)[0]
    texts = {"positive": synthetic.conditioning(1), "negative": synthetic.conditioning(2)}
    values = {"width": 16, "height": 16, "model_size": 16, "weighting": "recon", "guidance_scale": 5.0, **changes}
    return call(nodes["guidance"].Bloom4DVideoSDSGuidance, model=synthetic.framewise_video_model(), vae=synthetic.rgba_vae(RgbCodec()), cameras=cameras, **texts, **values)[0]


def test_a_picture_vae_under_a_video_model_shows_every_frame(nodes, synthetic):  # noqa: F811
    with video(nodes, synthetic).source.open() as prior, torch.inference_mode(False):
        pictures = torch.rand(3, 16, 16, 3, generator=torch.Generator().manual_seed(1))
        latents = prior.encode(pictures)
        assert latents.shape == (1, 16, 3, 8, 8)
        rgb, alpha = prior.decode(latents)
        assert torch.allclose(rgb, pictures, atol=1e-3) and alpha.shape == (3, 16, 16)
        assert prior.vae.decode(latents).shape[0] == 1  # what the host alone would show


def test_the_x0_form_of_dream_in_4d_runs_on_a_video_model(nodes, synthetic, output):  # noqa: F811
    with_it, without = (result(nodes, video(nodes, synthetic, decoded_weight=weight), steps=2) for weight in (0.1, 0.0))
    assert not same(with_it, without)
    assert not same(result(nodes, video(nodes, synthetic, decoded_weight=0.1, denoising_steps=3), steps=2), with_it)
