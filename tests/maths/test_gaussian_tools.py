"""Cutting, retiming, moving and merging Gaussians; harmonics that turn with the object; what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from bloom4d.models.gaussians import tools
from bloom4d.models.gaussians.checks import check
from bloom4d.models.gaussians.gaussians import Gaussians4D, sample_times
from bloom4d.models.gaussians.harmonics import basis, rotation_of_coefficients
from bloom4d.models.gaussians.tools import Pace, Placement, Trimming
from bloom4d.models.geometry.rotations import quaternion_to_matrix
from test_gaussians import moving


def clock(frames=5, count=2) -> Gaussians4D:
    """Gaussians whose x is the time, so that every course of time can be read off."""
    times = torch.arange(frames) / max(frames - 1, 1)
    positions = torch.zeros(frames, count, 3)
    positions[..., 0] = times[:, None]
    positions[..., 1] = torch.arange(count).float()
    unit = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, count, 4)
    return Gaussians4D(positions, unit, torch.full((1, count, 3), 0.1), torch.full((1, count), 0.5), torch.zeros(1, count, 1, 3), times)


def hands(gaussians: Gaussians4D) -> list[float]:
    return [round(value, 5) for value in gaussians.positions[:, 0, 0].tolist()]


def directions(count=200) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)), dim=-1)


def test_harmonics_are_orthonormal():
    from scipy.integrate import lebedev_rule

    points, weights = lebedev_rule(15)
    values = basis(torch.from_numpy(points.T.copy()), 3)
    gram = torch.einsum("n,ni,nj->ij", torch.from_numpy(weights), values, values)
    assert torch.allclose(gram, torch.eye(16, dtype=torch.float64), atol=1e-12)


def test_harmonics_are_those_of_3dgs():
    x, y, z = torch.eye(3).unbind(0)
    along_x, along_y, along_z = basis(x, 3), basis(y, 3), basis(z, 3)
    half = math.sqrt(3 / (4 * math.pi))
    assert torch.allclose(torch.stack([along_y[1], along_z[2], along_x[3]]), torch.tensor([-half, half, -half]))  # 3DGS's signs
    assert math.isclose(float(along_z[6]), 2 * 0.31539156525252005, rel_tol=1e-6) and math.isclose(float(along_x[15]), -0.5900435899266435, rel_tol=1e-6)


def test_turned_coefficients_show_the_turned_colour():
    turn = tools.rotation_matrix((31.0, -77.0, 140.0))
    coefficients = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mixing = rotation_of_coefficients(turn, 3)
    seen = directions()
    assert torch.allclose(basis(seen, 3) @ (mixing @ coefficients), basis(seen @ turn, 3) @ coefficients, atol=1e-12)
    assert torch.allclose(mixing @ mixing.T, torch.eye(16, dtype=torch.float64), atol=1e-12), "orthonormal functions turn by an orthogonal matrix"
    wrong = rotation_of_coefficients(turn.T, 3)
    assert not torch.allclose(basis(seen, 3) @ (wrong @ coefficients), basis(seen @ turn, 3) @ coefficients, atol=1e-2)


def test_a_quarter_turn_about_y_by_hand():
    turn = tools.rotation_matrix((0.0, 90.0, 0.0))
    assert torch.allclose(turn @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), atol=1e-12), "front to +X"
    only = torch.zeros(4, 3, dtype=torch.float64)
    only[2] = 1.0  # + z
    after = rotation_of_coefficients(turn, 1) @ only
    assert torch.allclose(after[:, 0], torch.tensor([0.0, 0.0, 0.0, -1.0], dtype=torch.float64), atol=1e-12)  # the third function is -x


def test_moving_an_object_moves_what_its_parts_span():
    gaussians = moving(3, 6, degree=2)
    placement = Placement(scale=2.0, rotation_degrees=(20.0, 35.0, -50.0), translation=(1.0, -2.0, 0.5))
    placed = tools.place(gaussians, placement)
    matrix = tools.rotation_matrix(placement.rotation_degrees).float()
    assert torch.allclose(placed.positions, 2 * gaussians.positions @ matrix.T + torch.tensor([1.0, -2.0, 0.5]), atol=1e-5)

    def covariance(cloud):
        axes = quaternion_to_matrix(cloud.rotations.reshape(-1, 4)[:, [1, 2, 3, 0]]).view(3, 6, 3, 3)
        return axes @ torch.diag_embed(cloud.scales.expand(3, 6, 3).square()) @ axes.mT

    assert torch.allclose(covariance(placed), 4 * matrix @ covariance(gaussians) @ matrix.T, rtol=1e-4, atol=1e-4)
    back = tools.place(tools.place(gaussians, Placement(rotation_degrees=(0.0, 40.0, 0.0))), Placement(rotation_degrees=(0.0, -40.0, 0.0)))
    assert torch.allclose(back.harmonics, gaussians.harmonics, atol=1e-5) and torch.allclose(back.positions, gaussians.positions, atol=1e-5)


def test_fitting_fills_the_unit_ball_at_the_largest_time():
    far = replace(clock(3), positions=clock(3).positions * 10 + torch.tensor([100.0, 0.0, 0.0]))
    fitted = tools.place(far, Placement(fit=True))
    assert math.isclose(float(fitted.positions.norm(dim=-1).amax()), 1.0, rel_tol=1e-5)
    ratio = far.scales / fitted.scales
    assert torch.allclose((far.positions[2, 0] - far.positions[0, 0]).norm(), ratio[0, 0, 0] * (fitted.positions[2, 0] - fitted.positions[0, 0]).norm(), rtol=1e-4)


@pytest.mark.parametrize(("pace", "shown"), [
    (Pace(), [0.0, 0.25, 0.5, 0.75, 1.0]),
    (Pace(reverse=True), [1.0, 0.75, 0.5, 0.25, 0.0]),
    (Pace(speed=2.0), [0.0, 0.5, 1.0, 1.0, 1.0]),
    (Pace(speed=0.5), [0.0, 0.125, 0.25, 0.375, 0.5]),
    (Pace(speed=2.0, end="ping-pong"), [0.0, 0.5, 1.0, 0.5, 0.0]),
    (Pace(speed=2.0, end="ping-pong", reverse=True), [1.0, 0.5, 0.0, 0.5, 1.0]),
    (Pace(speed=2.0, end="loop"), [0.0, 0.5, 0.0, 0.5, 1.0]),
    (Pace(frames=3), [0.0, 0.5, 1.0]),
    (Pace(frames=1), [0.0]),
])
def test_courses_of_time(pace, shown):
    retimed = tools.retime(clock(), pace)
    assert hands(retimed) == shown
    assert torch.equal(retimed.times, tools.even_times(len(shown)))


def test_a_piece_of_time_fills_the_range_and_keeps_its_frames():
    piece = tools.cut_time(clock(5), 0.1, 0.6)
    assert hands(piece) == [0.1, 0.25, 0.5, 0.6]
    assert torch.allclose(piece.times, torch.tensor([0.0, 0.3, 0.8, 1.0]), atol=1e-6)
    assert hands(tools.cut_time(clock(5), 0.4, 0.4)) == [0.4]
    with pytest.raises(ValueError, match="Swap them"):
        tools.cut_time(clock(), 0.6, 0.1)


def test_one_time_is_one_frame():
    picked = tools.pick_time(clock(3), 0.75)
    assert picked.frames == 1 and hands(picked) == [0.75] and float(picked.times) == 0.0
    assert tools.pick_time(clock(1), 0.4).frames == 1


def test_trimming_by_opacity_length_and_box():
    gaussians = clock(5, 4)
    gaussians = replace(gaussians, opacities=torch.tensor([[0.9, 0.01, 0.9, 0.9]]), scales=torch.tensor([0.1, 0.1, 3.0, 0.1])[None, :, None].expand(1, 4, 3).clone())
    assert tools.trim(gaussians, Trimming()).count == 4
    kept = tools.trim(gaussians, Trimming(opacity=0.05, longest=1.0))
    assert kept.positions[0, :, 1].tolist() == [0.0, 3.0]
    boxed = tools.trim(gaussians, Trimming(box=((-1.0, -1.0, -1.0), (0.6, 0.5, 1.0))))
    assert boxed.count == 1
    assert boxed.opacities[:, 0].tolist() == pytest.approx([0.9, 0.9, 0.9, 0.0, 0.0]), "invisible while outside"
    with pytest.raises(ValueError, match=r"none of the 4 Gaussians: their opacities reach 0.9"):
        tools.trim(gaussians, Trimming(opacity=0.95))
    with pytest.raises(ValueError, match="lower corner"):
        Trimming(box=((0.0, 0.0, 0.0), (1.0, 0.0, 1.0)))


def test_trimming_removes_what_is_not_finite():
    gaussians = clock(3, 4)
    positions = gaussians.positions.clone()
    positions[1, 2, 0] = float("nan")
    broken = replace(gaussians, positions=positions)
    with pytest.raises(ValueError, match=r"positions that are not finite: 1 of 4 Gaussians, the first is number 2 at frame 1"):
        check(broken)
    assert tools.trim(broken, Trimming()).positions[0, :, 1].tolist() == [0.0, 1.0, 3.0]
    with pytest.raises(ValueError, match="none of them is finite"):
        tools.trim(replace(gaussians, scales=gaussians.scales * float("inf")), Trimming())


def test_empty_and_exploded_clouds_are_refused():
    check(clock())
    with pytest.raises(ValueError, match="empty cloud"):
        check(clock().chosen(torch.zeros(2, dtype=torch.bool)))
    far = clock(3, 4)
    far.positions[2, 1, 1] = 3e7
    with pytest.raises(ValueError, match=r"exploded: 25.0% of them .* the farthest at 3e\+07"):
        check(far)
    check(tools.trim(far, Trimming(box=((-9.0,) * 3, (9.0,) * 3))).chosen(torch.tensor([True, False, True, True])))


def test_merging_keeps_every_time_and_pads_harmonics():
    first, second = clock(3, 2), moving(4, 3, degree=2)
    merged = tools.merge([first, second])
    assert merged.count == 5 and merged.degree == 2
    assert torch.allclose(merged.times, torch.tensor([0.0, 1 / 3, 0.5, 2 / 3, 1.0]))
    for cloud, part in ((first, slice(0, 2)), (second, slice(2, 5))):
        wanted = sample_times(cloud, merged.times)
        assert torch.allclose(merged.positions[:, part], wanted.positions)
        assert torch.allclose(merged.harmonics[:, part, : cloud.harmonics.shape[2]], cloud.harmonics)
    assert not merged.harmonics[:, :2, 1:].any()
    assert tools.merge([first, second], 7).frames == 7
    still = tools.merge([clock(1), clock(1)])
    assert still.frames == 1 and still.count == 4
