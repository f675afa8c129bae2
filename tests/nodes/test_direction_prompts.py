"""What a view direction's prompt has of its own counts for its pictures: strength, guidance, ControlNet, area, length; each against the prompt alone."""

import pytest
import torch
from test_score_session import control_net

SHAPE = (3, 3, 16, 16)


@pytest.fixture(scope="module")
def session(comfy):
    from bloom4d.nodes.host.score import ScoreSession

    return ScoreSession


@pytest.fixture(scope="module")
def prior(comfy):
    from bloom4d.nodes.host.adapter import HostPrior

    return HostPrior


def noise(*shape, seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_entries(conditioning, **entries):
    return [[features, {**options, **entries}] for features, options in conditioning]


def asked(model) -> list[int]:
    """The sizes of the batches that the network is called with from now on."""
    rows = []
    model.model.diffusion_model.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    return rows


def check_each_alone(session, model, plain, directions, shape=SHAPE, sigma=1.0, order=(2, 0, 1), negative=None):
    """A batch of views is what each view gives by itself, and the views differ."""
    x = noise(*shape)
    with session(model, plain, negative, directions=directions) as mixed:
        mixed.set_text(list(order))
        found, free = mixed.both(x, sigma)
    texts = [plain, *directions]
    for row, index in enumerate(order):
        with session(model, texts[index], negative) as alone:
            expected, expected_free = alone.both(x[row : row + 1], sigma)
        assert (found[row : row + 1] - expected).abs().max() < 1e-5, (row, index)
        if negative is not None:
            assert (free[row : row + 1] - expected_free).abs().max() < 1e-5
        with session(model, texts[(index + 1) % len(texts)], negative) as other:
            assert (found[row : row + 1] - other.both(x[row : row + 1], sigma)[0]).abs().max() > 1e-4, "a control: another view's prompt"


@pytest.mark.parametrize("text", [[2, 2, 2], [0, 2, 1]])
def test_perp_neg_weighs_a_negative_by_its_strength_from_each_side(synthetic, prior, text):
    """The paper's formula with w of the side, written with eps; the prompts' own strengths are 1, 0.7 and 0.1."""
    from bloom4d.models.geometry.cameras import view_time_grid
    from bloom4d.models.guidance.distillation import Distillation, estimated

    model, vae = synthetic.image_model(), synthetic.pixel_vae()
    plain, empty = synthetic.conditioning(1), synthetic.conditioning(2)
    strengths = (1.0, 0.7, 0.1)
    negatives = [with_entries(synthetic.conditioning(3 + place), strength=value) for place, value in enumerate(strengths)]
    x, sigma = noise(*SHAPE), torch.full((3,), 2.0)

    class Directed:
        def pick(self, cameras):
            return text

    with prior(model, vae, [plain], empty, size=(16, 16), negatives=(*negatives, negatives[0])) as judge:
        denoised = estimated(x, sigma, judge, view_time_grid(1, 3), Distillation(guidance=7.5, perp_neg=1.3, directions=Directed()))
        others = judge.denoise_apart(x, sigma, text=text)[2]
        assert len(others) == 1 and torch.allclose(others[0][0].expand(3), torch.tensor([strengths[index] for index in text]))

    def eps(conditioning):
        with prior(model, vae, [conditioning], size=(16, 16)) as alone:
            return (x - alone.denoise(x, sigma)[0]) / 2.0

    e_u, p = eps(empty), eps(plain) - eps(empty)
    away = torch.zeros_like(p)
    for row, index in enumerate(text):
        e = (eps(negatives[index]) - e_u)[row]
        away[row] = strengths[index] * (e - (e * p[row]).sum() / p[row].square().sum() * p[row])
    expected = x - 2.0 * (e_u + 7.5 * (p - 1.3 * away))
    assert (denoised - expected).abs().max() < 1e-3
    blind = x - 2.0 * (e_u + 7.5 * (p - 1.3 * away / torch.tensor([strengths[index] for index in text]).view(-1, 1, 1, 1)))
    assert (denoised - blind).abs().max() > 0.1, "a control: every weight 1"


def test_a_negative_of_strength_0_from_one_side_pushes_there_not_at_all(synthetic, prior):
    model, vae = synthetic.image_model(), synthetic.pixel_vae()
    plain, empty, negative = (synthetic.conditioning(seed) for seed in (1, 2, 3))
    off = with_entries(negative, strength=0.0)
    x, sigma = noise(*SHAPE), torch.full((3,), 2.0)
    with prior(model, vae, [plain], empty, size=(16, 16), negatives=(off, negative, off, off)) as judge:
        _, _, ((weight, estimate),) = judge.denoise_apart(x, sigma, text=[0, 1, 2])
    assert weight.tolist() == [0.0, 1.0, 0.0]
    with prior(model, vae, [plain], negative, size=(16, 16)) as judge:
        assert torch.allclose(estimate, judge.denoise(x, sigma)[1], atol=1e-5)


def test_directions_that_differ_in_text_alone_are_one_call(synthetic, session):
    model = synthetic.image_model()
    texts, rows = [synthetic.conditioning(seed) for seed in (1, 2, 3)], asked(model)
    with session(model, texts[0], directions=texts[1:]) as mixed:
        mixed.set_text([0, 1, 2])
        mixed.both(noise(*SHAPE), 1.0)
        assert sum(rows) == 3
        rows.clear()
    with session(model, texts[0], directions=[with_entries(texts[1], area=(8, 16, 0, 0)), texts[2]]) as mixed:
        mixed.set_text([0, 1, 2])
        mixed.both(noise(*SHAPE), 1.0)
    assert sum(rows) > 3, "the one with an area of its own cannot share an entry"


def test_flux_hears_the_guidance_of_each_direction(host_models, session):
    model = host_models.flux()
    plain, front, back = (host_models.text(seed, guidance=value) for seed, value in ((1, 3.5), (2, 3.5), (3, 30.0)))
    check_each_alone(session, model, plain, [front, back], (3, 16, 4, 4), 0.5)
    same_words = [host_models.text(1, guidance=value) for value in (1.0, 30.0)]
    check_each_alone(session, model, host_models.text(1, guidance=3.5), same_words, (3, 16, 4, 4), 0.5)  # nothing but the number differs


def test_a_direction_without_a_number_of_its_own_takes_the_plain_prompts(host_models, session):
    model, x = host_models.flux(), noise(2, 16, 4, 4)
    with session(model, host_models.text(1, guidance=30.0), directions=[host_models.text(2)]) as mixed:
        mixed.set_text([1, 0])
        found, _ = mixed.both(x, 0.5)
    with session(model, host_models.text(2, guidance=30.0)) as alone:
        assert (found[:1] - alone.both(x[:1], 0.5)[0]).abs().max() < 1e-5


def test_each_direction_has_its_own_controlnet(synthetic, session):
    model = synthetic.image_model()
    hints = [torch.rand(1, 5, 128, 128, generator=torch.Generator().manual_seed(seed)) for seed in (12, 13)]
    controls = [control_net(synthetic).set_cond_hint(hint, strength) for hint, strength in zip(hints, (1.0, 0.8))]
    plain, front, back = (synthetic.conditioning(seed) for seed in (1, 2, 3))
    front, back = with_entries(front, control=controls[0]), with_entries(back, control=controls[1])
    check_each_alone(session, model, plain, [front, back], negative=synthetic.conditioning(4))
    check_each_alone(session, model, front, [synthetic.conditioning(5, control=controls[1]), synthetic.conditioning(6, control=controls[0])])
    assert all(control.cond_hint is None for control in controls), "the user's own are never changed"


def test_a_session_gives_every_directions_controlnet_back(synthetic, session):
    model, control = synthetic.image_model(), control_net(synthetic)
    control.set_cond_hint(torch.rand(1, 5, 128, 128, generator=torch.Generator().manual_seed(12)))
    prompts = synthetic.conditioning(1), synthetic.conditioning(2, control=control)
    with session(model, prompts[0], directions=prompts[1:]) as mixed:
        mixed.set_text([0, 1])
        mixed.both(noise(2, 3, 16, 16), 1.0)
        kept, = mixed.controls
        assert kept is not control and kept.cond_hint is not None
        mixed.set_text([0, 0])
        mixed.both(noise(2, 3, 16, 16), 1.0)  # not among the last prompts
    assert kept.cond_hint is None


def test_a_controlnet_that_also_steers_the_negative_cannot_follow_the_view(synthetic, session):
    control = control_net(synthetic).set_cond_hint(torch.rand(1, 5, 128, 128))
    old = synthetic.conditioning(2, control=control, control_apply_to_uncond=True)
    with session(synthetic.image_model(), synthetic.conditioning(1), synthetic.conditioning(3), directions=[old]) as mixed:
        with pytest.raises(ValueError, match=r"has another ControlNet than the plain prompt, put on by Apply ControlNet \(OLD\).*Use Apply ControlNet on the prompts"):
            mixed.both(noise(*SHAPE), 1.0)


def test_areas_masks_and_texts_of_another_shape(synthetic, host_models, session):
    model = synthetic.image_model()
    mask = torch.zeros(1, 16, 16)
    mask[:, :, :9] = 1.0
    whole = synthetic.conditioning(7)
    parts = lambda seed, **entries: [*synthetic.conditioning(seed, **entries), *whole]  # noqa: E731  (a text over a part, another over all)
    check_each_alone(session, model, parts(1, area=(8, 16, 0, 0)), [parts(2, area=(8, 8, 4, 4)), parts(3, area=(16, 16, 0, 0), mask=mask, mask_strength=0.6)])
    check_each_alone(session, model, parts(1, strength=0.2), [parts(1), parts(2, strength=3.0)])  # the host's 1 where there is none
    words = lambda seed, tokens: host_models.text(seed, tokens, attention_mask=torch.ones(1, tokens, dtype=torch.long))  # noqa: E731
    check_each_alone(session, host_models.ltx(), words(1, 4), [words(2, 6), words(3, 6)], (3, 128, 2, 2, 2), 0.5)


NODES = ("SDSGuidance", "VideoSDSGuidance", "VSDGuidance", "VideoRefinementLoss")


def source_of(name, synthetic, **prompts):
    """The source of a guidance node."""
    from test_field_nodes import call

    from bloom4d.models.geometry.cameras import CameraSampler
    from bloom4d.nodes import guidance, guidance_losses, guidance_vsd

    kinds = {kind.__name__: kind for module in (guidance, guidance_losses, guidance_vsd) for kind in module.NODES}
    common = {"model": synthetic.image_model(), "vae": synthetic.pixel_vae(), "positive": synthetic.conditioning(1), "negative": synthetic.conditioning(2)}
    return call(kinds[f"Bloom4D{name}"], cameras=CameraSampler(views=1), width=16, height=16, model_size=16, **common, **prompts)[0].source


@pytest.mark.parametrize("name", NODES)
def test_pictures_from_the_side_get_a_prompt_of_their_own_if_there_is_one(synthetic, session, name):
    from bloom4d.models.geometry.cameras import view_time_grid
    from bloom4d.models.guidance.directions import ViewDirections

    side, back = synthetic.conditioning(7), synthetic.conditioning(8)
    ring = view_time_grid(4, 1)  # front, side, back, side
    text = ViewDirections().pick(ring)
    x, sigma = noise(4, 3, 16, 16), torch.full((4,), 1.0)

    def estimates(**prompts):
        source = source_of(name, synthetic, **prompts)
        with source.open() as prior:
            return prior.denoise(x, sigma, ring, text)[0], source.identity()

    def alone(conditioning, row):
        with session(synthetic.image_model(), conditioning) as one:
            return one.both(x[row : row + 1], 1.0)[0][0]

    plain = synthetic.conditioning(1)
    for prompts, expected in (({}, (plain,) * 4), ({"positive_back": back}, (plain, plain, back, plain)), ({"positive_side": side}, (plain, side, plain, side)), ({"positive_side": side, "positive_back": back}, (plain, side, back, side))):
        found, _ = estimates(**prompts)
        assert all((found[row] - alone(conditioning, row)).abs().max() < 1e-5 for row, conditioning in enumerate(expected)), list(prompts)
    assert len({estimates(**prompts)[1] for prompts in ({}, {"positive_side": side}, {"positive_side": back}, {"positive_overhead": side})}) == 4


def test_negatives_from_the_side(synthetic):
    from dataclasses import replace

    from test_field_nodes import call

    from bloom4d.models.geometry.cameras import CameraSampler, view_time_grid
    from bloom4d.models.guidance.directions import ViewDirections
    from bloom4d.models.guidance.distillation import Distillation
    from bloom4d.models.optimize.stages import Term
    from bloom4d.nodes import guidance_losses
    from bloom4d.nodes.guidance import Guidance

    source = source_of("SDSGuidance", synthetic)
    side = with_entries(synthetic.conditioning(7), strength=0.3)
    item = Guidance(Term("image", CameraSampler(views=1), Distillation()), source)
    apart = call(guidance_losses.Bloom4DPerpNeg, guidance=item, unconditional=synthetic.conditioning(3), negative_side=side)[0]
    ring = view_time_grid(4, 1)
    with apart.source.open() as prior:
        weight = prior.denoise_apart(noise(4, 3, 16, 16), torch.full((4,), 1.0), ring, ViewDirections().pick(ring))[2][0][0]
    assert weight.tolist() == pytest.approx([1.0, 0.3, 1.0, 0.3])
    assert replace(apart.source, directed_negatives=()).identity() != apart.source.identity()


def test_vsds_phi_hears_the_plain_prompt_only(synthetic):
    source = source_of("VSDGuidance", synthetic, positive_side=synthetic.conditioning(7), positive_front=synthetic.conditioning(8))
    with source.open() as prior:
        assert torch.equal(prior.learner.texts[0][0][0], synthetic.conditioning(1)[0][0]) and len(prior.learner.texts) == 1


@pytest.fixture(scope="module")
def host_models(comfy):
    import host_models

    return host_models
