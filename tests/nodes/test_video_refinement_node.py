"""The Video Refinement Loss as a node, on a video MODEL of the host."""

import pytest
from test_distillation_nodes import RgbCodec
from test_field_nodes import call, nodes, optimise, oracle_model, output, same, state, tiny_field  # noqa: F401  (fixtures)


@pytest.fixture(scope="module")
def node(comfy):
    from bloom4d.nodes import guidance_losses

    return guidance_losses.Bloom4DVideoRefinementLoss


@pytest.fixture
def refinement(nodes, node, synthetic):  # noqa: F811
    """The term of a tiny video model with a latent a frame, whose pictures come from a picture VAE."""
    model, vae = synthetic.framewise_video_model(), synthetic.rgba_vae(RgbCodec())
    texts = {"positive": synthetic.conditioning(1), "negative": synthetic.conditioning(2)}
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1, frames=3)[0]
    small = {"width": 16, "height": 16, "model_size": 16, "guidance_scale": 3.0, "denoising_steps": 2, "every": 2, "begin": 0.0}
    return lambda **changes: call(node, model=model, vae=vae, cameras=cameras, **texts, **{**small, **changes})[0]


def result(nodes, *terms, steps=4):  # noqa: F811
    stage = call(nodes["optimize"].Bloom4DStage, terms={f"term{index}": term for index, term in enumerate(terms)}, rate_dynamic=0.01)[0]
    return optimise(nodes, tiny_field(nodes), stage, steps=steps)[0]


def test_a_native_video_model_redraws_every_second_step(nodes, refinement, output):  # noqa: F811
    scene = result(nodes, refinement())
    assert [int(step) for step in scene.history[0].columns["step"]] == [0, 2]
    assert all(0.3 <= level <= 0.5 for level in scene.history[0].columns["level"])
    plain = state(scene)
    assert same(state(result(nodes, refinement())), plain)
    changes = ({"denoising_steps": 3}, {"t_min": 0.1, "t_max": 0.2}, {"every": 1}, {"begin": 0.5}, {"guidance_scale": 6.0}, {"train_motion": False})
    for change in changes:
        assert not same(state(result(nodes, refinement(**change))), plain), change


def test_beside_distillation_its_weight_counts(nodes, refinement, oracle_model, output):  # noqa: F811
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1, frames=3)[0]
    distillation = call(nodes["guidance"].Bloom4DVideoSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras, width=16, height=16)[0]
    one, other, without = (state(result(nodes, distillation, *more)) for more in ([refinement(weight=1000.0)], [refinement(weight=1e5)], []))
    assert not same(one, without) and not same(one, other)


def test_levels_the_wrong_way_round_are_refused(refinement):
    with pytest.raises(ValueError, match="go from 0.6 to 0.5. Swap them"):
        refinement(t_min=0.6)


def test_its_weight_moves_inside_the_stage_as_that_of_every_term(refinement):
    weight = refinement(weight=1000.0, weight_end=3000.0, weight_from=0.5).term.weight
    assert [weight.at(step, 100) for step in (0, 50, 75, 100)] == pytest.approx([1000.0, 1000.0, 2000.0, 3000.0])
    assert refinement(weight=7.0).term.weight.at(60, 100) == 7.0
