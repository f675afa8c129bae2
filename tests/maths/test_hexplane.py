"""ST-HexPlane and dynamic Gaussians (specification F6.1-3, 5 and 6): identity at the start, planes by hand, priors, regularisers."""

import json
from dataclasses import asdict

import pytest
import torch
from bloom4d.models.formats.tensors import mismatch
from bloom4d.models.gaussians.activation import activated, raw_of
from bloom4d.models.gaussians.deformation import Deformation, DeformationConfig, PriorConfig
from bloom4d.models.gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from bloom4d.models.gaussians.hexplane import HexPlane, HexPlaneConfig
from bloom4d.models.geometry.rotations import quaternion_product, quaternion_to_matrix
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.scene_files import load_scene, save_scene

TINY = HexPlaneConfig(channels=4, resolution=5, levels=(1, 2), times=6)
TIMES = torch.tensor([0.0, 0.21, 0.5, 0.77, 1.0])
MOVED = ("positions", "rotations", "scales")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(priors: PriorConfig | None = None, seed: int = 0, count: int = 40, degree: int = 1) -> DynamicGaussians:
    """A cloud with turned, stretched, coloured Gaussians."""
    config = DynamicGaussiansConfig(degree, DeformationConfig(TINY, hidden=16, priors=priors))
    made = DynamicGaussians(config, draws(seed), count)
    with torch.no_grad():
        for name in ("quaternions", "log_scales", "details"):
            getattr(made, name).add_(torch.randn(getattr(made, name).shape, generator=draws(seed + 1)))
    return made


def difference(made: DynamicGaussians) -> float:
    moved, still = made.at(TIMES), made.at(TIMES, moving=False)
    return max(float((getattr(moved, name) - getattr(still, name)).detach().abs().max()) for name in MOVED)


def nudge(module: torch.nn.Module, seed: int = 5) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws(seed)))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("priors", [None, PriorConfig("learned", tokens=7, width=8, attention=16, heads=2), PriorConfig("transfer", tokens=7, width=8, attention=16, heads=2)])
def test_an_untrained_deformation_is_the_identity_to_the_bit(seed, priors):
    made = tiny(priors, seed)
    assert difference(made) == 0.0
    nudge(made.deformation.heads)  # the negative control: the same measure sees a deformation
    assert difference(made) > 1e-3


def features(planes: HexPlane, points, times) -> torch.Tensor:
    still, moving = planes(points, times)
    return (still * moving).detach()  # (M, N, width)


def test_time_planes_at_one_mean_no_time_and_a_bump_reaches_one_cell():
    planes, points = HexPlane(TINY, draws()), torch.rand(30, 3, generator=draws(1)) * 2 - 1
    times = torch.linspace(0, 1, 41)
    before = features(planes, points, times)
    assert torch.allclose(before, before[:1].expand_as(before), rtol=1e-5)
    with torch.no_grad():
        planes.temporal[0][1, :, 2] = 3.0  # yt, row 2 of 6: t = 0.4
    changed = (features(planes, points, times) - before).abs().amax(dim=(1, 2)) > 1e-4
    inside = (times - 0.4).abs() < 1 / 5 - 1e-4
    assert (changed == inside).all()


def by_hand(planes: HexPlane, point, time) -> torch.Tensor:
    """The product of six bilinear samples, in plain Python, for the first level's channels."""

    def line(side, value):
        at = min(max((value + 1) / 2 * (side - 1), 0.0), side - 1.0)
        low = min(int(at), side - 2)
        return low, at - low

    def sample(plane, first, second):  # plane (C, second axis, first axis)
        column, across = line(plane.shape[2], first)
        row, down = line(plane.shape[1], second)
        corners = [plane[:, row + r, column + c] * (down if r else 1 - down) * (across if c else 1 - across) for r in (0, 1) for c in (0, 1)]
        return sum(corners)

    x, y, z = point
    pairs = [(x, y), (x, z), (y, z)]
    found = torch.ones(planes.config.channels)
    for plane, pair in zip(planes.spatial[0], pairs):
        found = found * sample(plane.detach(), *pair)
    for plane, value in zip(planes.temporal[0], point):
        found = found * sample(plane.detach(), value, 2 * time - 1)
    return found


def test_samples_are_bilinear_at_nodes_between_them_and_at_the_border():
    planes = HexPlane(TINY, draws())
    nudge(planes)
    points = [(-1.0, -0.5, 0.0), (1.0, 0.5, 1.0), (-0.75, 0.25, 0.75), (0.1, -0.62, 0.33), (1.7, -3.0, 0.2)]  # nodes, corner, midpoints, anywhere, outside
    for time in (0.0, 0.2, 0.3, 0.555, 1.0):
        found = features(planes, torch.tensor(points), torch.tensor([time]))[0, :, :4]
        expected = torch.stack([by_hand(planes, point, time) for point in points])
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("time", "row"), [(0.0, 0), (1.0, 5), (0.4, 2)])
def test_instants_read_their_own_row_of_the_time_planes(time, row):
    planes, points = HexPlane(TINY, draws()), torch.zeros(1, 3)
    before = features(planes, points, torch.tensor([time]))[0, 0, :4]
    for other in range(6):
        with torch.no_grad():
            planes.temporal[0].fill_(1.0)
            planes.temporal[0][:, :, other] = 2.0
        factor = features(planes, points, torch.tensor([time]))[0, 0, :4] / before
        assert torch.allclose(factor, torch.full((4,), 8.0 if other == row else 1.0))


def test_regularisers_vanish_on_constant_planes_and_push_back_elsewhere():
    planes = HexPlane(TINY, draws())
    measures = (planes.total_variation, planes.roughness, planes.restlessness)
    with torch.no_grad():
        for parameter in planes.spatial:
            parameter.fill_(0.3)
    for measure in measures:
        value = measure()
        value.backward()
        assert float(value.detach()) == 0.0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in planes.parameters())
    nudge(planes)
    for measure in measures:
        value = measure()
        value.backward()
        assert float(value.detach()) > 0
    assert all(parameter.grad.any() for parameter in planes.parameters())


def test_a_steady_slope_in_time_is_not_rough():
    planes = HexPlane(TINY, draws())
    with torch.no_grad():
        for parameter in planes.temporal:
            parameter.add_(torch.arange(6.0)[:, None])
    assert float(planes.roughness().detach()) < 1e-9 < float(planes.restlessness().detach())


def test_without_priors_only_the_attention_is_gone():
    plain, learned = tiny(), tiny(PriorConfig("learned", tokens=7, width=8, attention=16, heads=2))
    names = {name for name, _ in learned.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert names and all(name.startswith("deformation.priors.") for name in names)
    nudge(plain.deformation)
    nudge(learned.deformation)
    for made in (plain, learned):
        made.at(TIMES).positions.square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in made.deformation.parameters())


def test_transferred_tokens_are_kept_and_answer_their_own_instant():
    made = tiny(PriorConfig("transfer", tokens=3, width=8, attention=32, heads=2))
    assert not any(name.startswith("deformation.priors.") and name.rsplit(".", 1)[1] in ("spatial", "temporal", "times") for name, _ in made.named_parameters())
    priors = made.deformation.priors
    tokens = torch.eye(3, 8) * 5
    priors.set(tokens, tokens, torch.tensor([0.0, 0.5, 1.0]))
    with torch.no_grad():
        priors.queries[1].weight.zero_()
        priors.queries[1].bias.zero_()
        priors.keys[1].weight.zero_()
        priors.keys[1].bias.zero_()
    seen = torch.zeros(3, 1, TINY.width)
    _, moving = priors(seen, priors.times)  # only the codes of time decide
    values = priors.values[1](tokens)
    for index in range(3):
        assert int((values - moving[index]).square().sum(-1).argmin()) == index
    with pytest.raises(ValueError, match="prior tokens are"):
        priors.set(tokens[:2], tokens, priors.times)


def test_turns_compose_as_rotation_matrices_do():
    first, second = torch.nn.functional.normalize(torch.randn(2, 6, 4, generator=draws(), dtype=torch.float64), dim=-1)
    matrix = lambda quaternion: quaternion_to_matrix(quaternion[:, [1, 2, 3, 0]])  # noqa: E731
    assert torch.allclose(matrix(quaternion_product(first, second)), matrix(first) @ matrix(second))
    assert not torch.allclose(matrix(quaternion_product(second, first)), matrix(first) @ matrix(second))


def test_steps_turns_and_stretches_are_applied_as_the_specification_says():
    made = tiny(count=1)
    with torch.no_grad():
        made.deformation.heads.bias.copy_(torch.tensor([0.1, -0.2, 0.3, 0.5, 0.0, 1.0, 0.0, 0.7, -0.1, 0.0]))
    moved, still = made.at(TIMES), made.at(TIMES, moving=False)
    assert torch.allclose(moved.positions, still.positions + torch.tensor([0.1, -0.2, 0.3]), atol=1e-6)
    assert torch.allclose(moved.scales, still.scales * torch.tensor([0.7, -0.1, 0.0]).exp(), rtol=1e-5)
    turn = torch.nn.functional.normalize(torch.tensor([1.5, 0.0, 1.0, 0.0]), dim=0)
    assert torch.allclose(moved.rotations, quaternion_product(still.rotations, turn.expand(5, 1, 4)), atol=1e-6)
    assert torch.allclose(moved.rotations.norm(dim=-1), torch.ones(5, 1))


def test_raw_and_activated_are_each_others_inverse():
    values = activated(dict(tiny(degree=2).raw()))
    again = activated(raw_of(values))
    assert all(torch.allclose(again[name], value, atol=1e-5) for name, value in values.items())
    edge = raw_of({**values, "opacities": torch.tensor([0.0, 1.0] * 20), "scales": torch.zeros(40, 3)})
    assert edge["logits"].isfinite().all() and edge["log_scales"].isfinite().all()


def test_roles_hold_every_parameter_once():
    made = tiny(PriorConfig("learned", tokens=7, width=8, attention=16, heads=2))
    listed = [parameter for group in made.roles().values() for parameter in group]
    assert len(listed) == len(set(listed)) and set(listed) == set(made.parameters())


def test_a_copy_and_a_file_hold_the_same_cloud_whatever_its_size(tmp_path):
    made = tiny(PriorConfig("learned", tokens=7, width=8, attention=16, heads=2), count=33)
    nudge(made.deformation)
    save_scene(Scene(made), tmp_path / "field.safetensors")
    loaded = load_scene(tmp_path / "field.safetensors").field
    smaller = DynamicGaussians(made.config, count=5)
    smaller.load_state_dict(made.state_dict())
    for other in (made.clone(), loaded, smaller):
        assert not mismatch(other.state_dict(), made.state_dict()) and other.config == made.config
        assert (other.at(TIMES).positions == made.at(TIMES).positions).all()
    assert DynamicGaussiansConfig.from_dict(json.loads(json.dumps(asdict(made.config)))) == made.config


@pytest.mark.parametrize(("config", "told"), [
    (lambda: DynamicGaussiansConfig(degree=4), "degree 0 to 3"),
    (lambda: HexPlaneConfig(channels=0), "out of range"),
    (lambda: HexPlaneConfig(resolution=4096, levels=(1, 64)), "too large"),
    (lambda: PriorConfig("given"), "Choose"),
    (lambda: PriorConfig(attention=10, heads=4), "does not divide"),
    (lambda: DeformationConfig(hidden=0), "hidden layer"),
])  # fmt: skip
def test_impossible_shapes_are_refused(config, told):
    with pytest.raises(ValueError, match=told):
        config()


def test_points_outside_the_box_read_its_border():
    moving = Deformation(DeformationConfig(TINY, hidden=8), draws())
    nudge(moving)
    moving.set_bounds(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    assert torch.allclose(moving.high, torch.full((3,), 1.2))
    inside, outside = (torch.cat(moving(torch.full((1, 3), value), TIMES), -1) for value in (1.2, 9.0))
    assert torch.allclose(inside, outside, atol=1e-6)
