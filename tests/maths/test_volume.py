"""Volume rendering against closed forms (A10), and occupancy that never drops a moving part."""

import dataclasses
import math

import pytest
import torch
from bloom4d.models.fields.hash_field import DEMO_FIELD, MAGIC3D_BLOB, HashField
from bloom4d.models.geometry.cameras import CameraPath
from bloom4d.models.render.occupancy import OccupancyConfig
from bloom4d.models.render.volume import DEMO_RENDERER, PAPER_RENDERER, VolumeRenderer, VolumeRendererConfig, ray_weights
from toy_fields import ConstantField, MovingBall

SMALL = VolumeRendererConfig(samples=64, bounds="ball", occupancy=OccupancyConfig(resolution=16, slabs=4, warmup=4, every=1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def beam(*heights, dtype=torch.float64):
    """Parallel rays along -Z through (x, 0, 0)."""
    origins = torch.tensor([[x, 0.0, 3.0] for x in heights], dtype=dtype)
    return origins, torch.tensor([[0.0, 0.0, -1.0]], dtype=dtype).expand_as(origins), torch.zeros(len(heights), dtype=dtype)


class BlobField(ConstantField):
    """The density of a new paper field: the blob alone."""

    radius = 0.5

    def density(self, positions, times):
        return MAGIC3D_BLOB.density(torch.zeros_like(positions[:, 0]), positions, self.radius)


@pytest.mark.parametrize("bounds, lengths", [("box", (2.0, 2.0, 0.0)), ("ball", (2.0, 2 * math.sqrt(1 - 0.7**2), 0.0))])
@pytest.mark.parametrize("generator", [None, seeded()])
def test_constant_density_gives_the_closed_form(bounds, lengths, generator):
    field, renderer = ConstantField(1.5), VolumeRenderer(dataclasses.replace(SMALL, bounds=bounds))
    rendered = renderer.render(field, renderer.new_state(field), *beam(0.0, 0.7, 1.2), generator)
    opacity = 1 - torch.exp(-1.5 * torch.tensor(lengths, dtype=torch.float64))
    assert torch.allclose(rendered.opacity, opacity, atol=1e-6)
    assert torch.allclose(rendered.rgb, opacity[:, None] * field.colour, atol=1e-6)


def test_depth_and_its_variance_of_a_fog():
    """Exponential distribution cut off at the far side: its mean and variance, with the light that passes counted as 0."""
    field, renderer = ConstantField(2.0), VolumeRenderer(dataclasses.replace(SMALL, samples=4096))
    rendered = renderer.render(field, renderer.new_state(field), *beam(0.0))
    opacity = 1 - math.exp(-4)
    beyond = 0.5 - math.exp(-4) * (2 + 0.5)  # integral of 2 s exp(-2 s) from 0 to 2
    depth = 2 * opacity + beyond  # the ball begins at distance 2
    assert rendered.depth.item() == pytest.approx(depth, abs=1e-4)
    second = 0.5 - math.exp(-4) * (4 + 2 + 0.5)  # of 2 s^2 exp(-2 s)
    offset = 2 - depth
    assert rendered.z_variance.item() == pytest.approx(second + 2 * offset * beyond + offset**2 * opacity, abs=1e-4)


def test_weights_and_the_light_left_sum_to_one():
    depth = torch.rand(500, generator=seeded(), dtype=torch.float64) * 3
    ray = torch.randint(0, 40, (500,), generator=seeded(1)).sort().values
    weights = ray_weights(depth, ray, 41)
    for index in range(41):
        mine = ray == index
        assert weights[mine].sum() + torch.exp(-depth[mine].sum()) == pytest.approx(1, abs=1e-12)
        light = 1.0
        for weight, alpha in zip(weights[mine], 1 - torch.exp(-depth[mine])):
            assert weight.item() == pytest.approx(light * alpha.item(), abs=1e-12)
            light *= 1 - alpha.item()


def test_gradient_of_the_weights_equals_finite_differences():
    depth = (torch.rand(30, generator=seeded(), dtype=torch.float64) * 2).requires_grad_()
    ray = torch.tensor([0] * 7 + [2] * 11 + [3] + [6] * 11)
    assert torch.autograd.gradcheck(lambda values: ray_weights(values, ray, 8), depth, atol=1e-7)


def test_gradient_through_a_render_equals_finite_differences():
    field, renderer = ConstantField(1.5), VolumeRenderer(SMALL)
    state, rays = renderer.new_state(field), beam(0.0, 0.3, 2.0)

    def loss():
        rendered = renderer.render(field, state, *rays)
        return rendered.rgb.square().sum() + rendered.depth.sum() * 0.3 + rendered.z_variance.sum() + rendered.opacity.sum()

    loss().backward()
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            field.value += sign * 1e-5
            values.append(loss().item())
            field.value -= sign * 1e-5
    assert field.value.grad.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("radius, optical_depth", [(0.5, 5.164), (5.0, 18.0)])
def test_optical_depth_of_the_first_blob(radius, optical_depth):
    """Specification 11, over [-1, 1]; opacity .994 +- .003 for the default radius (A10)."""
    field, renderer = BlobField(), VolumeRenderer(dataclasses.replace(PAPER_RENDERER, samples=2048))
    field.radius = radius
    rendered = renderer.render(field, renderer.new_state(field), *beam(0.0))
    assert -math.log1p(-rendered.opacity.item()) == pytest.approx(optical_depth, abs=2e-3)
    if radius == 0.5:
        assert rendered.opacity.item() == pytest.approx(0.994, abs=0.003)


def test_an_empty_scene_renders_nothing_and_has_a_zero_gradient():
    field, renderer = ConstantField(0.0), VolumeRenderer(SMALL)
    state = renderer.new_state(field)
    for progress in (1.0, 1.0):
        renderer.update(field, state, 0, seeded(), progress)
    assert not state.occupied.any()
    rendered = renderer.render(field, state, *beam(0.0, 2.0))
    assert not rendered.rgb.any() and not rendered.opacity.any() and not rendered.z_variance.any()
    rendered.rgb.sum().backward()
    assert field.value.grad == 0 and torch.isfinite(field.colour.grad).all()


def test_jitter_is_the_generators_and_unbiased():
    field, renderer = MovingBall(torch.float64), VolumeRenderer(SMALL)
    state = renderer.new_state(field)
    rays = beam(*[-0.6] * 400)
    one, same, other = (renderer.render(field, state, *rays, seeded(seed)).depth for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.mean().item() == pytest.approx(3 - 0.2 + 1 / 60, abs=0.01)  # the ball's front, half a sample's fog deep


def test_skipping_empty_space_changes_nothing_but_the_cost():
    """The blob of a new field reaches every cell a little, so compare a scene that is truly empty outside a ball."""
    field, renderer = MovingBall(), VolumeRenderer(SMALL)
    state = renderer.new_state(field)
    for _ in range(4):
        renderer.update(field, state, 0, seeded(), progress=0.2)
    origins, directions, times = CameraPath(frames=5).cameras().rays(16, 16)
    fast = renderer.render(field, state, origins, directions, times)
    everything = renderer.occupancy.new_state(field.strength)
    slow = renderer.render(field, everything, origins, directions, times)
    assert torch.equal(fast.rgb, slow.rgb) and torch.equal(fast.depth, slow.depth)
    assert fast.samples < 0.35 * slow.samples


class OneInstant:
    """What a grid sees that is refreshed at one random time per update (4D-fy's public code)."""

    def __init__(self, field, time):
        self.field, self.time = field, time

    def density(self, positions, times):
        return self.field.density(positions, torch.full_like(times, self.time))

    def is_static(self):
        return True


def missing_opacity(renderer, state, field):
    origins, directions, _ = beam(*torch.linspace(-0.6, 0.6, 9).tolist(), dtype=torch.float32)
    times = torch.linspace(0, 1, 9)  # each ray goes through the ball's centre at its time
    return (1 - renderer.render(field, state, origins, directions, times).opacity).max().item()


def test_occupancy_never_drops_a_moving_part():
    field = MovingBall()
    config = dataclasses.replace(SMALL, occupancy=dataclasses.replace(SMALL.occupancy, decay=0.5, explore=0.0, share=0.05))
    renderer = VolumeRenderer(config)
    ours, control = renderer.new_state(field), renderer.new_state(field)
    moments = torch.rand(40, generator=seeded(3))
    for moment in moments:
        renderer.update(field, ours, 0, seeded(1), progress=1.0)
        renderer.occupancy.update(OneInstant(field, moment), control, seeded(1), progress=1.0)
    assert missing_opacity(renderer, ours, field) < 1e-3
    assert missing_opacity(renderer, control, field) > 0.9  # the test can fail


def test_new_matter_is_found_by_exploring():
    field, renderer = MovingBall(), VolumeRenderer(SMALL)
    state = renderer.new_state(field)
    state.opacity.zero_()
    state.occupied.zero_()
    state.updates.fill_(100)
    for step in range(30):
        renderer.update(field, state, step, seeded(step), progress=0.1)
    assert missing_opacity(renderer, state, field) < 1e-3


def test_a_static_field_is_asked_once_for_all_times():
    class Counting(ConstantField):
        calls = 0

        def density(self, positions, times):
            self.calls += 1
            return super().density(positions, times)

    field, renderer = Counting(), VolumeRenderer(SMALL)
    renderer.new_state(field)
    assert field.calls == SMALL.occupancy.times_per_slab


def test_updates_come_when_due_and_only_from_the_generator():
    field, renderer = HashField(DEMO_FIELD, seeded()), VolumeRenderer(DEMO_RENDERER)
    one, other = renderer.new_state(field), renderer.new_state(field)
    for state in (one, other):
        for step in range(10):
            renderer.update(field, state, step, seeded(step), progress=0.5)
    assert int(one.updates) == 3 and all(torch.equal(value, other.tensors()[name]) for name, value in one.tensors().items())
    assert one.occupied.float().mean() < 0.6 and (one.reachable >= one.occupied).all()


def test_normals_of_a_ball_point_outwards():
    class SoftBall(ConstantField):
        def density(self, positions, times):
            return 200 * torch.sigmoid((0.5 - positions.norm(dim=-1)) * 60)

    field, renderer = SoftBall(), VolumeRenderer(dataclasses.replace(SMALL, samples=256))
    rays = beam(0.0, 0.25, -0.4, 0.9)
    normals = renderer.render_normals(field, renderer.new_state(field), *rays)
    for x, normal in zip((0.0, 0.25, -0.4), normals):
        expected = torch.tensor([x, 0, math.sqrt(0.25 - x * x)], dtype=torch.float64) / 0.5
        assert (normal @ expected).item() > 0.995
    assert not normals[3].any()


def test_bad_settings_say_what_to_change():
    with pytest.raises(ValueError, match='"box" or "ball"'):
        VolumeRendererConfig(bounds="sphere")
    with pytest.raises(ValueError, match="resolution of 4 to 256"):
        OccupancyConfig(resolution=1000)
