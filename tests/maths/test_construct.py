"""Construction of Gaussians from pictures (specification F6.4, 5 and 7 to 9, B6): what it fits, what it says, how it resumes."""

import math

import pytest
import torch
from bloom4d.models.gaussians.deformation import DeformationConfig, PriorConfig
from bloom4d.models.gaussians.density import DensityConfig
from bloom4d.models.gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from bloom4d.models.gaussians.gaussians import Gaussians4D, harmonics_of
from bloom4d.models.gaussians.hexplane import HexPlaneConfig
from bloom4d.models.geometry.cameras import CameraPath, Cameras, view_time_grid
from bloom4d.models.optimize.carve import Carving, carve
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.cloud_optimiser import CloudRates
from bloom4d.models.optimize.construct import ConstructConfig, Construction
from bloom4d.models.optimize.construct_losses import LossWeights, absolute_error, depth_smoothness, sobel_pyramid
from bloom4d.models.optimize.construct_report import losses_in_words, match, shown
from bloom4d.models.optimize.footage import Footage, coverage, footage, stratified
from bloom4d.models.optimize.runs import Hopeless, Pace, run
from bloom4d.models.render.splats import render_gaussians

SIZE = 32
PLANES = HexPlaneConfig(channels=8, resolution=8, levels=(1, 2), times=8)
QUICK = CloudRates(positions=4e-3, colours=2e-2, planes=1e-2, networks=3e-3, scales=1e-2, rotations=5e-3)
PLAIN = LossWeights(perceptual=0.0, depth=0.0, hex=0.0)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy(times: torch.Tensor, count: int = 60) -> Gaussians4D:
    """A lump of coloured balls that travels along x while it turns about y: everything known in closed form."""
    random = draws(3)
    start = torch.nn.functional.normalize(torch.randn(count, 3, generator=random), dim=-1) * 0.35 * torch.rand(count, 1, generator=random) ** (1 / 3)
    angle = times * 1.2
    turn = torch.zeros(len(times), 3, 3)
    turn[:, 0, 0] = turn[:, 2, 2] = angle.cos()
    turn[:, 0, 2], turn[:, 2, 0], turn[:, 1, 1] = angle.sin(), -angle.sin(), 1.0
    shift = torch.stack([0.7 * times - 0.35, 0 * times, 0 * times], dim=-1)
    rotation = torch.stack([(angle / 2).cos(), 0 * angle, (angle / 2).sin(), 0 * angle], dim=-1)
    colours = torch.rand(1, count, 3, generator=random)
    return Gaussians4D(
        torch.einsum("tij,nj->tni", turn, start) + shift[:, None], rotation[:, None].expand(-1, count, -1).contiguous(), torch.full((1, count, 3), 0.06),
        torch.full((1, count), 0.9), harmonics_of(colours), times,
    )  # fmt: skip


def filmed(cameras: Cameras, name: str = "video", static: bool = False, size: int = SIZE) -> Footage:
    times, which = torch.unique(cameras.times, return_inverse=True)
    body, parts = toy(times), []
    for index in range(len(cameras)):
        here = Cameras(cameras.camera_to_world[index : index + 1], cameras.fov_y[index : index + 1], times[which[index]][None])
        parts.append(render_gaussians(body, here, size, size))
    return Footage(name, torch.cat([part.rgb for part in parts]), torch.cat([part.alpha for part in parts]), cameras, static)


def begun(count: int = 150, deformation: bool = True, seed: int = 0, priors: PriorConfig | None = None) -> DynamicGaussians:
    config = DynamicGaussiansConfig(0, DeformationConfig(PLANES, hidden=32, priors=priors) if deformation else None)
    return DynamicGaussians(config, draws(seed), count, radius=0.7)


def quick(coarse: int, fine: int = 0, **changes) -> ConstructConfig:
    settings = dict(pictures=4, driving=0, densify_from=10**6, reset_at=0.0, rates=QUICK, weights=PLAIN)
    return ConstructConfig(coarse, fine, **{**settings, **changes})


def finished(job: Construction) -> DynamicGaussians:
    run(job)
    return job.scene().field


@pytest.fixture(scope="module")
def grid() -> Footage:
    """Six cameras at eight times."""
    return filmed(view_time_grid(6, 8))


def test_a_moving_toy_is_fitted_where_a_still_cloud_fails_and_between_its_times(grid):
    """F6.4."""
    rates = CloudRates(positions=8e-3, colours=4e-2, planes=2e-2, networks=1e-2, scales=2e-2, rotations=1e-2)
    found = {kind: finished(Construction(begun(deformation=kind), [grid], quick(180, rates=rates))) for kind in (True, False)}
    moving, still = (float(match(found[kind], grid).decibels.mean()) for kind in (True, False))
    assert moving >= still + 5.0
    between = view_time_grid(6, 8)
    between = Cameras(between.camera_to_world, between.fov_y, (between.times + 0.5 / 7).clamp(max=1 - 0.5 / 7))
    assert float(match(found[True], filmed(between)).decibels.mean()) >= moving - 3.0


def fit_motion(shuffled: bool, steps: int = 60) -> list[float]:
    """Losses of fitting positions that jump from frame to frame, with the frames' true motion as temporal tokens, or shuffled."""
    frames, random = 12, draws(1)
    jumps = torch.randn(frames, 3, generator=random)
    made = begun(40, priors=PriorConfig("transfer", tokens=frames, width=3, attention=64, heads=1))
    times = torch.arange(frames) / (frames - 1)
    told = jumps[torch.randperm(frames, generator=draws(2))] if shuffled else jumps
    made.deformation.priors.set(torch.zeros(frames, 3), told, times)
    truth = made.positions.detach() + 0.3 * jumps[:, None]
    adam = torch.optim.Adam(made.deformation.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        loss = (made.at(times).positions - truth).square().mean()
        losses.append(float(loss.detach()))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return losses


def test_temporal_priors_that_know_the_motion_are_worth_steps():
    """F6.5."""
    told, shuffled = fit_motion(False), fit_motion(True)
    goal = 0.2 * told[0]
    reached = lambda losses: next((step for step, loss in enumerate(losses) if loss < goal), len(losses))  # noqa: E731
    assert reached(told) < 0.7 * reached(shuffled)


def test_depth_smoothness_is_zero_on_a_plane_that_faces_and_counts_steps_where_both_sides_are_covered():
    """F6.7; expected values by hand."""
    alpha = torch.full((1, 8, 8), 0.8)
    assert float(depth_smoothness(2.0 * alpha, alpha)) < 1e-12
    ramp = torch.arange(8.0).expand(1, 8, 8)
    assert math.isclose(float(depth_smoothness(ramp * alpha, alpha)), 0.5, rel_tol=1e-5)  # a slope of 1 along one of two axes
    hole = alpha.clone()
    hole[:, :, 4:] = 0.2
    step = torch.where(torch.arange(8) < 4, 1.0, 9.0).expand(1, 8, 8)
    assert float(depth_smoothness(step * hole, hole)) == 0.0  # nothing is covered on one side of the step
    assert float(depth_smoothness(step * alpha, alpha)) > 1.0
    assert float(depth_smoothness(step, torch.zeros(1, 8, 8))) == 0.0


def test_baked_gaussians_show_what_the_field_shows(grid):
    """F6.8."""
    made = begun(60)
    with torch.no_grad():
        for part in (made.deformation.heads.weight, *made.deformation.planes.temporal):
            part.add_(torch.randn(part.shape, generator=draws(4)))
        times = torch.linspace(0, 1, 5)
        baked = made.at(times)
        cameras = CameraPath(frames=5).cameras()
        views = render_gaussians(baked, cameras, SIZE, SIZE)
        direct = shown(made, cameras, cameras.times, SIZE, SIZE)
        assert torch.allclose(views.over(views.rgb.new_ones(3)).clamp(0, 1), direct, atol=1e-4)
        other = shown(made, cameras, 1 - cameras.times, SIZE, SIZE)
    assert (other - direct).abs().max() > 0.05  # the control: another time is seen


def test_the_hex_loss_is_inactive_without_a_driving_video_and_says_so(grid):
    """F6.9."""
    silent = Construction(begun(30), [grid], quick(3, driving=1, weights=LossWeights(hex=1.0, perceptual=0.0)))
    driven = Construction(begun(30), [grid], quick(3, driving=1, weights=LossWeights(hex=1.0, perceptual=0.0)), driving=filmed(CameraPath(frames=4, turns=0).cameras(), "driving video"))
    for job, active in ((silent, False), (driven, True)):
        run(job)
        assert (3.0 in job.history.columns["term"]) == active
    words = lambda driving: "\n".join(losses_in_words(LossWeights(), "LPIPS", driving, [grid]))  # noqa: E731
    assert "Hex loss: inactive" in words(None) and "inactive" not in words(grid)


def test_a_static_orbit_shows_time_zero_whatever_its_cameras_say():
    still = filmed(CameraPath(frames=6, times=(0.0, 0.0)).cameras(), "static orbit", static=True)
    late = Footage("static orbit", still.rgb, still.alpha, CameraPath(frames=6).cameras(), static=True)
    assert float(late.times.abs().max()) == 0.0
    jobs = [Construction(begun(30), [item], quick(4)) for item in (still, late)]
    first, second = (finished(job).positions for job in jobs)
    assert torch.equal(first, second)


def growing(steps: int, fine: int = 0, **changes) -> ConstructConfig:
    """A construction that densifies, prunes and resets within a few steps."""
    settings = dict(densify_from=4, densify_every=4, reset_at=0.5, driving=1, weights=LossWeights(), density=DensityConfig(threshold=1e-5, most=260))
    return quick(steps, fine, **{**settings, **changes})


def working(steps: int = 12, fine: int = 8, device=None, **changes) -> Construction:
    video = filmed(CameraPath(frames=9).cameras())
    still = filmed(CameraPath(frames=5, times=(0.0, 0.0)).cameras(), "static orbit", static=True)
    driving = filmed(CameraPath(frames=4, turns=0).cameras(), "driving video", size=24)
    return Construction(begun(80).to(device), [video, still], growing(steps, fine, **changes), seed=5, driving=driving)


def test_resumed_construction_is_the_same_to_the_byte_while_the_cloud_grows(tmp_path):
    whole = working()
    run(whole)
    assert whole.gaussians.count != 80
    for stop in (3, 9, 14):
        store, first = CheckpointStore(tmp_path / str(stop)), working()
        while first.step < stop:
            first.advance()
        store.write(first.step, *first.snapshot())
        second = working()
        second.restore(store.latest())
        run(second)
        for name, value in whole.snapshot()[0].items():
            assert second.snapshot()[0][name].numpy().tobytes() == value.numpy().tobytes(), name
        assert second.snapshot()[1] == whole.snapshot()[1]


def test_a_checkpoint_of_other_gaussians_is_refused(tmp_path):
    store, job = CheckpointStore(tmp_path), working()
    store.write(0, *job.snapshot())
    other = Construction(begun(20, deformation=False), [filmed(CameraPath(frames=3).cameras())], quick(4))
    with pytest.raises(ValueError, match="another field"):
        other.restore(store.latest())
    shorter = working(0, 1)
    shorter.step = 0
    job.step = 9
    store.write(9, *job.snapshot())
    with pytest.raises(ValueError, match="ends at 1"):
        shorter.restore(store.latest())


def test_an_interrupted_run_is_checkpointed(tmp_path):
    store, job = CheckpointStore(tmp_path), working()

    def stop(done, *rest):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, store, stop, Pace(preview=0.0, checkpoint=0.0))
    assert store.latest().step == 5


def test_out_of_memory_halves_the_pictures_of_a_call_and_repeats_the_step(monkeypatch):
    whole, halved, calls = working(4, 0), working(4, 0), []
    run(whole)
    from bloom4d.models.optimize import construct_step

    drawn = construct_step.draw

    def scarce(gaussians, cameras, *rest):
        calls.append(len(cameras))
        if len(cameras) > 2:
            raise torch.OutOfMemoryError("no room")
        return drawn(gaussians, cameras, *rest)

    monkeypatch.setattr(construct_step, "draw", scarce)
    run(halved)
    assert halved.at_once == 2 and max(calls[len(calls) // 2 :]) <= 2
    assert torch.allclose(halved.gaussians.colours, whole.gaussians.colours, atol=1e-3)
    assert halved.history.columns["loss"][:3] == pytest.approx(whole.history.columns["loss"][:3], rel=1e-4)


def test_steps_without_finite_gradients_change_nothing_and_a_row_of_them_ends_the_run(monkeypatch):
    job = working(40, 0, density=DensityConfig(threshold=1e9, faint=0.0))
    with torch.no_grad():
        before = {name: value.clone() for name, value in job.gaussians.state_dict().items()}
    monkeypatch.setattr(job, "perceptual", lambda pictures, truth: pictures.mean() * math.nan)
    with pytest.raises(Hopeless, match="not finite"):
        run(job)
    kept = [name for name in before if name != "logits"]  # the reset of opacities is no step
    assert job.stalled and len(job.history.skipped) == 20 and all(torch.equal(job.gaussians.state_dict()[name], before[name]) for name in kept)


@pytest.mark.parametrize("rates", [QUICK, CloudRates(*[1.0] * 8)])
def test_a_cloud_that_dies_out_or_explodes_ends_the_run_in_words(rates):
    job = working(20, 0, rates=rates)
    if rates is QUICK:
        with torch.no_grad():
            job.gaussians.logits.fill_(-9.0)
    with pytest.raises(Hopeless, match="no Gaussian is left"):
        run(job)


def test_the_count_stays_below_its_limit_and_nothing_grows_in_the_last_quarter():
    job, counts = working(12, 24), []
    run(job, watch=lambda *rest: counts.append(job.gaussians.count))
    assert max(counts) <= 260 and counts[11] > 80 and len(set(counts[24:])) == 1


def test_patience_ends_the_fine_phase():
    job = working(4, 60, patience=6, rates=CloudRates(*[0.0] * 8))
    assert run(job) and 10 <= job.steps < 30
    restored = working(4, 60, patience=6, rates=CloudRates(*[0.0] * 8))
    assert restored.steps == 64


def test_a_preview_changes_nothing():
    job = working(4, 0)
    before = job.snapshot()[0]
    picture = job.preview()
    assert picture.shape[0] == 1 and picture.shape[-1] == 3 and 0 <= float(picture.min()) and float(picture.max()) <= 1
    assert all(torch.equal(value, before[name]) for name, value in job.snapshot()[0].items())


def test_the_sobel_pyramid_sees_edges_and_no_brightness():
    picture = torch.rand(2, 3, 32, 32, generator=draws())
    assert float(sobel_pyramid(picture, picture)) == 0.0
    assert float(sobel_pyramid(picture + 0.3, picture)) < 1e-6
    blurred = torch.nn.functional.avg_pool2d(picture, 3, 1, 1)
    more = torch.nn.functional.avg_pool2d(picture, 5, 1, 2)
    assert 0 < float(sobel_pyramid(blurred, picture)) < float(sobel_pyramid(more, picture))


def test_pictures_without_opacity_are_compared_over_white():
    rgb, alpha = torch.zeros(2, 4, 4, 3), torch.zeros(2, 4, 4)
    white, known = torch.ones(2, 4, 4, 3), torch.tensor([False, True])
    errors = absolute_error(rgb, alpha, torch.where(known[:, None, None, None], 0.0, white), torch.zeros(2, 4, 4), known)
    assert errors.tolist() == [0.0, 0.0]
    assert absolute_error(rgb, alpha, rgb, torch.ones(2, 4, 4), known).tolist() == [1.0, 0.25]


def test_orders_pass_through_all_times_before_returning_to_one():
    times = torch.arange(6).repeat(4) / 5
    order = stratified(times, draws())
    assert sorted(order.tolist()) == list(range(24))
    for start in range(0, 24, 6):
        assert len(set(times[order[start : start + 6]].tolist())) == 6
    assert not torch.equal(order, stratified(times, draws(1)))


def test_coverage_is_counted_from_the_cameras():
    video = filmed(CameraPath(frames=8).cameras())
    still = filmed(CameraPath(frames=12, times=(0.0, 0.0)).cameras(), "static orbit", static=True)
    alone, helped, full = coverage([video]), coverage([video, still]), coverage([filmed(view_time_grid(4, 3))])
    assert alone.sides == (1,) * 8 and alone.ill_posed and "ill-posed" in alone.words() and "1 side only" in alone.words()
    assert helped.still == 12 and not helped.ill_posed and "12 sides" in helped.words()
    often = coverage([footage("video", torch.ones(48, 4, 4, 3), None, CameraPath(frames=48, turns=4).cameras())])
    once = coverage([footage("video", torch.ones(48, 4, 4, 3), None, CameraPath(frames=48, turns=1).cameras())])
    assert not often.ill_posed and abs(often.passed - 150) < 1 and "150 degrees apart" in often.words()  # opposite, both 15 degrees up
    assert once.ill_posed and 70 < once.passed < 100
    assert full.sides == (4, 4, 4) and not full.ill_posed and "determined" in full.words()


def test_carved_points_lie_in_the_silhouettes_and_wear_the_pictures_colours():
    """A red ball of radius 0.5, seen by exact silhouettes."""
    cameras = CameraPath(frames=12, times=(0.0, 0.0)).cameras()
    origins, directions, _ = cameras.rays(48, 48)
    closest = (origins - (origins * directions).sum(-1, keepdim=True) * directions).norm(dim=-1)
    alpha = (closest < 0.5).float().view(12, 48, 48)
    ball = Footage("static orbit", alpha[..., None] * torch.tensor([1.0, 0.0, 0.0]), alpha, cameras, static=True)
    raw = carve(ball, Carving(resolution=32), 500, 1)
    radius = raw["positions"].norm(dim=-1)
    assert 100 < len(radius) <= 500 and float(radius.min()) > 0.35 and float(radius.median()) < 0.56
    assert raw["details"].shape == (len(radius), 3, 3)
    colours = 0.5 + 0.28209479 * raw["colours"][:, 0]
    assert torch.allclose(colours.median(dim=0).values, torch.tensor([1.0, 0.0, 0.0]), atol=0.05)
    assert torch.equal(carve(ball, Carving(resolution=32), 500, 1)["positions"], raw["positions"])
    moved = cameras.camera_to_world.clone()
    moved[:, :3, 3] += 4.0 * moved[:, :3, 0]  # every camera looks past the object
    with pytest.raises(ValueError, match="no volume in common"):
        carve(Footage("static orbit", ball.rgb, alpha, Cameras(moved, cameras.fov_y, cameras.times), static=True), Carving(resolution=32), 500, 0)


def test_footage_that_does_not_fit_its_cameras_or_masks_is_refused():
    cameras = CameraPath(frames=4).cameras()
    pictures, mask = torch.ones(4, 8, 8, 3), torch.ones(4, 8, 8)
    assert footage("video", pictures, mask, cameras).size == (8, 8)
    for given, told in (
        ((pictures[:3], None), "3 pictures and 4 cameras"),
        ((pictures, mask[:2]), "one mask per picture"),
        ((pictures, mask[:, :4]), "of the same size"),
        ((pictures, 0 * mask), "empty in all 4"),
    ):
        with pytest.raises(ValueError, match=told):
            footage("video", *given, cameras)


def test_the_white_is_taken_out_of_soft_edges():
    alpha = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    colour = torch.tensor([0.2, 0.4, 0.8])
    over_white = alpha[..., None] * colour + 1 - alpha[..., None]
    found = footage("video", over_white, alpha, CameraPath(frames=1).cameras())
    assert torch.allclose(found.rgb, alpha[..., None] * colour, atol=1e-6) and torch.allclose(found.over_white(), over_white, atol=1e-6)
