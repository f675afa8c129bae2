"""The hybrid loop (specification 1.8: A6, A7): draws, freezing, guards; the input scene is never touched."""

import hashlib
import math
from dataclasses import replace

import pytest
import torch
from toy_scenes import ball_prior, hybrid_stage, term, tiny_renderer, tiny_scene

from bloom4d.models.guidance.regularisers import Regularisers
from bloom4d.models.guidance.schedules import Schedule, constant
from bloom4d.models.optimize import loop, workpiece
from bloom4d.models.optimize.history import StageHistory
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.roles import RoleOptimiser
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import STILL_ROLES, Backdrop, LearningRates, Stage
from bloom4d.models.render.volume import VolumeRenderer


def distiller(stage=None, scene=None, steps=20, seed=1, prior=None, **settings) -> Distiller:
    stage = stage or hybrid_stage()
    return Distiller(scene or tiny_scene(), stage, [prior or ball_prior()] * len(stage.terms), tiny_renderer(), steps, seed, **settings)


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()


def bytes_of(field) -> dict[str, str]:
    return {name: digest(value) for name, value in field.state_dict().items()}


def test_a6_the_loop_draws_its_terms_with_the_stages_probabilities():
    job = distiller()
    drawn = []
    for job.work.step in range(6000):
        drawn += job._drawn()
    for index, probability in enumerate((0.5, 0.25, 0.25)):
        assert abs(drawn.count(index) / 6000 - probability) < 3 * math.sqrt(probability * (1 - probability) / 6000)


def test_a7_motion_is_frozen_outside_video_steps_and_trained_by_them():
    for name, trained in (("multi-view", False), ("image", False), ("video", True)):
        only = tuple(float(other == name) for other in ("multi-view", "image", "video"))
        job = distiller(hybrid_stage(probabilities=only))
        before = bytes_of(job.work.field)
        for _ in range(3):
            job.advance()
        after = bytes_of(job.work.field)
        assert (before["dynamic.table"] != after["dynamic.table"]) == trained, name
        assert before["static.table"] != after["static.table"]


def motion_through(order, scene=None) -> list[str]:
    """The bytes of the part that moves after every step, with the terms drawn in `order` and weight decay on everything."""
    job = distiller(replace(hybrid_stage(), weight_decay=0.1), scene, steps=len(order))
    kept = []
    for job._drawn in [lambda index=index: (index,) for index in order]:
        job.advance()
        kept.append(digest(job.work.field.dynamic.table))
    return kept


MULTI_VIEW, IMAGE, VIDEO = range(3)


def test_a7_moments_of_a_video_step_move_nothing_in_the_other_terms_steps():
    """AdamW moves a parameter whose gradient is 0 by its moments and its decay; a frozen one must have no gradient at all."""
    kept = motion_through((VIDEO, VIDEO, MULTI_VIEW, IMAGE, IMAGE, MULTI_VIEW, VIDEO))
    assert kept[0] != kept[1] and kept[6] != kept[5]
    assert set(kept[2:6]) == {kept[1]}, "as the second video step left it"


def test_a7_a_gradient_of_zero_would_let_stale_moments_move_what_is_frozen(monkeypatch):
    """The control: gradients that are zeroed instead of forgotten."""
    monkeypatch.setattr(RoleOptimiser, "clear", lambda optimiser: optimiser.adam.zero_grad(set_to_none=False))
    assert len(set(motion_through((VIDEO, VIDEO, MULTI_VIEW, IMAGE, IMAGE)))) == 5


def test_a7_a_term_that_may_train_everything_moves_motion():
    stage = hybrid_stage()
    free = tuple(replace(item, trains=(*STILL_ROLES, "dynamic")) for item in stage.terms)
    job = distiller(replace(stage, terms=free, probabilities=(1.0, 0.0, 0.0)))
    before = digest(job.work.field.dynamic.table)
    job.advance()
    assert digest(job.work.field.dynamic.table) != before


def test_a7_the_first_step_is_the_learning_rate_long():
    def first_step(rate):
        job = distiller(Stage((term("multi-view", 4),), rates=LearningRates(static=rate)))
        before = job.work.field.static.table.detach().clone()
        job.advance()
        return float((job.work.field.static.table.detach() - before).abs().max())

    stage_one, stage_three = first_step(1e-2), first_step(1e-4)
    assert stage_one == pytest.approx(1e-2, rel=1e-4) and stage_three / stage_one == pytest.approx(0.01, rel=1e-3)


def test_frozen_roles_keep_their_bytes_and_have_no_moments():
    job = distiller(Stage((term("video", 1, 4, motion=True),), rates=LearningRates(static=0.0, dynamic=1e-2, decoder=0.0, background=0.0)))
    before = bytes_of(job.work.field)
    for _ in range(4):
        job.advance()
    after = bytes_of(job.work.field)
    assert [name for name in before if before[name] != after[name]] == ["dynamic.table"]
    assert {name.split(".", 1)[1] for name in job.work.optimiser.tensors()} == {"dynamic.table"}


def test_learning_rates_warm_up_and_decay():
    rates = LearningRates(warm_up=4, final=0.2)
    assert [rates.factor(step, 100) for step in (0, 3, 100)] == pytest.approx([0.2, 0.8 * (1 - 0.8 * 0.03), 0.2])
    job = distiller(Stage((term("image", 1),), rates=replace(rates, static=1e-2)))
    before = job.work.field.static.table.detach().clone()
    job.advance()
    assert float((job.work.field.static.table.detach() - before).abs().max()) == pytest.approx(2e-3, rel=1e-3)


def test_the_input_scene_is_never_mutated():
    scene = tiny_scene()
    before = bytes_of(scene.field)
    job = distiller(scene=scene)
    for _ in range(3):
        job.advance()
    out = job.scene()
    kept = bytes_of(out.field)
    job.advance()
    assert bytes_of(scene.field) == before and scene.history == () and bytes_of(out.field) == kept
    assert len(out.history[0]) == 3 and [history.name for history in out.history] == ["stage"] and not any(p.requires_grad for p in out.field.parameters())


def test_chained_stages_draw_other_numbers():
    first = distiller(steps=4)
    for _ in range(4):
        first.advance()
    second = distiller(scene=Scene(tiny_scene().field, first.scene().history), steps=4)
    for _ in range(4):
        second.advance()
    assert first.work.history.columns["level"] != second.work.history.columns["level"]
    assert len(second.scene().history) == 2


def test_weighted_sum_scores_every_term_in_every_step():
    job = distiller(hybrid_stage(probabilities=None))
    before = bytes_of(job.work.field)
    job.advance()
    assert job.work.history.columns["term"] == [0.0, 1.0, 2.0] and job.work.history.columns["step"] == [0.0] * 3
    assert bytes_of(job.work.field)["dynamic.table"] != before["dynamic.table"]


def test_terms_keep_their_randomness_beside_others():
    both, alone = distiller(hybrid_stage(probabilities=None)), distiller(Stage((hybrid_stage().terms[2],), rates=hybrid_stage().rates))
    both.advance(), alone.advance()
    assert both.work.history.columns["level"][2] == alone.work.history.columns["level"][0]
    assert both.work.history.columns["loss"][2] == alone.work.history.columns["loss"][0]


def test_chunks_give_the_same_step():
    whole, chunked = distiller(), distiller(chunk=300)
    whole.advance(), chunked.advance()
    for (name, a), (_, b) in zip(whole.work.field.named_parameters(), chunked.work.field.named_parameters()):
        assert (a - b).abs().max() <= 2e-3 * (a - tiny_scene().field.get_parameter(name)).abs().max() + 1e-12, name


def test_out_of_memory_halves_the_chunk_and_repeats_the_step(monkeypatch):
    reference, job = distiller(), distiller()
    reference.advance()
    original, sizes = VolumeRenderer.render_views, []

    def scarce(renderer, field, state, cameras, height, width, seed, chunk):
        sizes.append((seed, chunk))
        if not 0 < chunk <= 512:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(renderer, field, state, cameras, height, width, seed, chunk)

    monkeypatch.setattr(VolumeRenderer, "render_views", scarce)
    job.advance()
    assert [chunk for _, chunk in sizes] == [0, 512] and len({seed for seed, _ in sizes}) == 1
    assert job.work.history.columns["level"] == reference.work.history.columns["level"] and job.step == 1

    def hopeless(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VolumeRenderer, "render_views", hopeless)
    with pytest.raises(torch.OutOfMemoryError, match="^CUDA out of memory$"):  # never wrapped
        job.advance()
    assert job.step == 1 and job.consistent


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(VolumeRenderer, "render_views", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        distiller().advance()


class BrokenPrior:
    """The ball's prior with a gradient that is not finite on its way through the encoder, in chosen steps."""

    def __init__(self, bad_calls):
        self.prior, self.bad_calls, self.calls = ball_prior(), bad_calls, 0

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def encode(self, rgb, alpha):
        self.calls += 1
        if self.calls - 1 in self.bad_calls:
            rgb = rgb + (rgb - rgb.detach()) * math.inf  # value kept, gradient infinite
        return self.prior.encode(rgb, alpha)


def test_steps_with_broken_gradients_are_skipped_and_counted():
    job = distiller(Stage((term("image", 1),)), prior=BrokenPrior({1, 2}))
    job.advance()
    before = bytes_of(job.work.field)
    moments = {name: digest(value) for name, value in job.work.optimiser.tensors().items()}
    job.advance(), job.advance()
    assert bytes_of(job.work.field) == before and {name: digest(value) for name, value in job.work.optimiser.tensors().items()} == moments
    assert job.work.history.skipped == [1, 2] and job.work.in_a_row == 2 and job.step == 3
    job.advance()
    assert job.work.in_a_row == 0 and bytes_of(job.work.field) != before


def test_twenty_broken_steps_in_a_row_end_the_run_with_advice():
    job = distiller(Stage((term("image", 1),)), steps=40, prior=BrokenPrior(set(range(3, 99))))
    with pytest.raises(RuntimeError, match="20 steps in a row had gradients that are not finite .* Lower the learning rates"):
        for _ in range(40):
            job.advance()
    assert job.step == 23 and job.consistent and torch.isfinite(job.work.field.static.table).all()


def test_an_empty_scene_ends_the_run_with_advice(monkeypatch):
    monkeypatch.setattr(workpiece, "EMPTY_STEPS", 5)
    scene = tiny_scene()
    field = scene.field.clone()
    field.config = replace(field.config, blob=replace(field.config.blob, bias=-100.0))
    job = distiller(Stage((term("image", 1),)), Scene(field), steps=30)
    with pytest.raises(RuntimeError, match="empty for 5 steps"):
        for _ in range(30):
            job.advance()
    assert job.step == 5


def test_motion_is_the_change_between_times_of_one_camera():
    videos = torch.zeros(2, 2, 2, 2, 2, 3)  # two scenes, two views, two times
    videos[0, 0, 1] = 0.5
    assert loop.motion(videos) == pytest.approx(0.125)
    assert math.isnan(loop.motion(videos[:, :, :1]))


def test_priors_without_alpha_see_a_backdrop_and_train_the_background():
    seen = []
    prior = ball_prior(accepts_alpha=False)
    encode = prior.encode
    prior.encode = lambda rgb, alpha: (seen.append((rgb.detach()[:, 0, 0], alpha.detach())), encode(rgb, alpha))[1]
    stage = Stage((term("image", 4),), backdrop=Backdrop(random_share=0.5, colour=(0.0, 0.5, 1.0)))
    job = distiller(stage, prior=prior, steps=40)
    for _ in range(40):
        job.advance()
    corners = torch.stack([corner for corner, _ in seen])  # (40, 4, 3): rays that miss the ball
    assert all(torch.equal(alpha, torch.ones_like(alpha)) for _, alpha in seen)
    plain = ((corners - torch.tensor([0.0, 0.5, 1.0])).abs().amax((1, 2)) < 1e-4).sum()
    shared = (corners - corners[:, :1]).abs().amax((1, 2)) < 1e-4  # one colour for all views
    assert 10 <= plain <= 30 and shared.all() and corners[:, 0].unique(dim=0).shape[0] > 10


def test_regularisers_reach_the_field():
    quiet = replace(term("image", 1), weight=constant(0.0))
    none, some = (distiller(Stage((quiet,), regularisers=terms)) for terms in (Regularisers(), Regularisers(sparsity=constant(1.0))))
    none.advance(), some.advance()
    start = bytes_of(tiny_scene().field)["static.table"]
    assert bytes_of(some.work.field)["static.table"] != start
    changed = (none.work.field.static.table - tiny_scene().field.static.table).abs().max()
    assert changed == 0  # Adam moves by the sign of a gradient: only an exact zero stays
    rough = tiny_scene()  # a bumpy surface: the smooth ball of the start faces every camera
    with torch.no_grad():
        rough.field.static.table.normal_(generator=torch.Generator().manual_seed(1))
    start = bytes_of(rough.field)["static.table"]
    for name in ("opaque", "z_variance", "orientation"):
        job = distiller(Stage((quiet,), regularisers=Regularisers(**{name: Schedule(1.0, 1.0)})), rough)
        job.advance()
        assert bytes_of(job.work.field)["static.table"] != start, name


def test_stage_without_a_term_and_other_mistakes():
    with pytest.raises(ValueError, match="has no guidance term"):
        Stage(())
    with pytest.raises(ValueError, match="share a name"):
        Stage((term("image", 1), term("image", 4)))
    with pytest.raises(ValueError, match="2 terms and 1 probabilities"):
        Stage((term("a", 1), term("b", 1)), (1.0,))
    frozen = LearningRates(static=0, dynamic=0, decoder=0, material=1.0, background=1.0)  # roles this field leaves empty
    with pytest.raises(ValueError, match="trains nothing"):
        distiller(Stage((term("image", 1),), rates=frozen))


def test_history_survives_a_file():
    job = distiller(steps=5)
    for _ in range(5):
        job.advance()
    job.work.history.skipped.append(3)
    again = StageHistory.restore(job.work.history.describe(), job.work.history.tensors())
    assert again.columns.keys() == job.work.history.columns.keys() and again.skipped == [3] and again.rates == job.work.history.rates
    for name, column in job.work.history.columns.items():
        assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(column, again.columns[name]))
    assert again.learning_rates(0) == {"static": 1e-4, "dynamic": 1e-2, "decoder": 1e-3}


def test_preview_is_a_small_sheet_and_changes_nothing():
    job = distiller()
    job.advance()
    before = {name: digest(value) for name, value in job.snapshot()[0].items()}
    sheet = job.preview()
    assert sheet.shape == (1, 3 * 120, 4 * 120, 3) and sheet.min() >= 0 and sheet.max() <= 1 and sheet.std() > 0.01
    assert {name: digest(value) for name, value in job.snapshot()[0].items()} == before


def draws(block: int, steps, seed: int = 1) -> list[int]:
    job = distiller(hybrid_stage(block=block), seed=seed)
    drawn = []
    for job.work.step in steps:
        drawn += job._drawn()
    return drawn


@pytest.mark.parametrize("block", [1, 8])
def test_a6_blocks_keep_the_mix_of_terms(block):
    firsts = draws(block, range(0, 6000 * block, block))
    for index, probability in enumerate((0.5, 0.25, 0.25)):
        assert abs(firsts.count(index) / 6000 - probability) < 3 * math.sqrt(probability * (1 - probability) / 6000)
    changes = sum(one != other for one, other in zip(firsts, firsts[1:])) / 6000
    assert changes == pytest.approx(0.625, abs=0.03)  # 1 - (0.5^2 + 2 * 0.25^2) at every border of two blocks
    begin = draws(block, range(20 * block))
    assert begin == [index for index in firsts[:20] for _ in range(block)], "inside a block nothing is exchanged"


def test_blocks_of_one_are_the_draw_of_every_step():
    whole = range(200)
    assert draws(1, whole) != draws(8, whole) and draws(1, whole) == draws(1, whole) != draws(1, whole, seed=2)
    with pytest.raises(ValueError, match="blocks of 0 steps"):
        hybrid_stage(block=0)


def test_a_stage_that_adds_its_terms_up_reads_no_block():
    job = distiller(replace(hybrid_stage(block=8), probabilities=None))
    assert [list(job._drawn()) for job.work.step in range(20)] == [[0, 1, 2]] * 20


def test_the_block_is_part_of_what_identifies_a_run():
    from bloom4d.models.optimize.identity import fingerprint

    assert fingerprint(hybrid_stage()) == fingerprint(hybrid_stage(block=1)) != fingerprint(hybrid_stage(block=8))
