"""Densification: who is cloned, split, pruned and reset, in which units, and what happens to the optimiser's moments."""

import math

import torch
from bloom4d.models.gaussians.activation import RAW, cloud
from bloom4d.models.gaussians.density import DensityConfig, PullMeter, densify, prune, reset_opacities
from bloom4d.models.gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from bloom4d.models.optimize.cloud_optimiser import CloudOptimiser, CloudRates

CONFIG = DensityConfig(threshold=1.0, small=0.1, faint=0.1, large=1.0, far=5.0, most=100)


def raw(scales=(0.05, 0.05, 0.5, 0.5), opacity=0.5) -> dict[str, torch.Tensor]:
    count = len(scales)
    positions = torch.arange(float(count))[:, None] * torch.tensor([1.0, 0.0, 0.0])
    return cloud(positions, torch.full((count, 3), 0.5), torch.tensor(scales), opacity, 1)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_small_gaussians_are_cloned_and_large_ones_split_where_pictures_pull():
    found = densify(raw(), torch.tensor([2.0, 0.5, 2.0, 0.5]), CONFIG, 1.0, draws())
    assert found.source.tolist() == [0, 1, 3, 0, 2, 2] and found.fresh.tolist() == [False] * 3 + [True] * 3
    assert torch.equal(found.raw["positions"][3], raw()["positions"][0])
    halves = found.raw["log_scales"][4:].exp()
    assert torch.allclose(halves, torch.full((2, 3), 0.5 / 1.6))
    offsets = found.raw["positions"][4:] - raw()["positions"][2]
    assert float(offsets.norm(dim=-1).min()) > 0.01 and float(offsets.norm(dim=-1).max()) < 4 * 0.5


def test_halves_are_spread_along_the_parents_long_axis():
    parent = raw((0.5,))
    parent["log_scales"] = torch.tensor([[2.0, 0.01, 0.01]]).log()
    turn = math.pi / 2
    parent["quaternions"] = torch.tensor([[math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2)]])  # x to y
    places = torch.cat([densify(parent, torch.ones(1) * 9, CONFIG, 1.0, torch.Generator().manual_seed(seed)).raw["positions"] for seed in range(200)])
    deviation = places.std(dim=0)
    assert abs(float(deviation[1]) - 2.0) < 0.25 and float(deviation[[0, 2]].max()) < 0.02


def test_the_strongest_pulls_come_first_when_room_is_short_and_none_when_it_is_gone():
    pull = torch.tensor([2.0, 4.0, 3.0, 5.0])
    few = densify(raw(), pull, DensityConfig(threshold=1.0, small=0.1, most=6), 1.0, draws())
    assert len(few.source) == 6 and sorted(few.source[few.fresh].tolist()) == [1, 3, 3]  # one clone, and the two halves of one
    assert densify(raw(), pull, DensityConfig(threshold=1.0, small=0.1, most=3), 1.0, draws()).source.tolist() == [0, 1, 2, 3]


def test_the_same_seed_splits_alike():
    first, second = (densify(raw(), torch.ones(4) * 9, CONFIG, 1.0, draws()).raw for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in RAW)


def test_the_faint_the_huge_the_far_and_the_broken_are_pruned():
    values = raw((0.05,) * 6)
    values["logits"][1] = -3.0  # 0.047
    values["log_scales"][2, 1] = math.log(1.5)
    values["positions"][3] = torch.tensor([0.0, 9.0, 0.0])
    values["quaternions"][4, 0] = math.nan
    assert prune(values, CONFIG, 1.0, torch.zeros(3)).source.tolist() == [0, 5]
    assert prune(values, CONFIG, 2.0, torch.zeros(3)).source.tolist() == [0, 2, 3, 5]  # lengths are shares of the extent
    assert prune(values, CONFIG, 2.0, torch.tensor([0.0, -9.0, 0.0])).source.tolist() == [0, 2]


def test_a_reset_lowers_the_opaque_and_leaves_the_faint():
    values = raw()
    values["logits"][1] = -4.0
    found = torch.sigmoid(reset_opacities(values, CONFIG).raw["logits"])
    assert torch.allclose(found, torch.tensor([0.2, 1 / (1 + math.exp(4.0)), 0.2, 0.2]), atol=1e-5)


def test_pulls_are_in_half_pictures_and_averaged_over_the_pictures_that_drew_a_gaussian():
    meter = PullMeter(2)
    gradient = torch.tensor([[[3e-3, 4e-3], [1e-3, 0.0]], [[3e-3, 4e-3], [math.nan, 0.0]]])
    meter.observe(gradient, torch.tensor([[1, 2], [0, 1]]), 64, 64, 2)
    assert torch.allclose(meter.mean(), torch.tensor([5e-3 * 32 * 2, 1e-3 * 32 * 2 / 2]))
    wide = PullMeter(1)
    wide.observe(torch.tensor([[[1e-3, 0.0]]]), torch.ones(1, 1), 10, 200, 1)
    assert math.isclose(float(wide.mean()), 1e-3 * 100, rel_tol=1e-5)


def test_moments_follow_their_gaussians_and_new_ones_start_without():
    made = DynamicGaussians(DynamicGaussiansConfig(1), draws(), 4)
    optimiser = CloudOptimiser(made, CloudRates(), 1.0)
    made.at(torch.tensor([0.5])).positions.square().sum().backward()
    (made.log_scales.exp().sum() + made.logits.square().sum()).backward()
    optimiser.update(0.0)
    before = {name: value.clone() for name, value in optimiser.tensors().items()}
    change = densify({name: value.detach() for name, value in made.raw().items()}, torch.tensor([9.0, 0.0, 9.0, 0.0]), DensityConfig(threshold=1.0, small=9.0), 1.0, draws())
    optimiser.replace(change, forget=("logits",))
    after = optimiser.tensors()
    assert made.count == 6 and before["exp_avg.positions"].abs().min() > 0
    assert torch.equal(after["exp_avg.positions"][:4], before["exp_avg.positions"]) and not after["exp_avg.positions"][4:].any()
    assert not after["exp_avg.logits"].any() and torch.equal(after["exp_avg_sq.log_scales"][:4], before["exp_avg_sq.log_scales"])
    kept = "exp_avg.deformation.heads.weight"
    assert kept not in before or torch.equal(after[kept], before[kept])
    stale = made.positions
    made.at(torch.tensor([0.5])).positions.sum().backward()
    optimiser.update(0.5)
    assert made.positions is stale and after["step.positions"] == 2


def test_rates_fall_as_they_should():
    optimiser = CloudOptimiser(DynamicGaussians(count=3), CloudRates(), extent=2.0)
    assert math.isclose(optimiser.rate("positions", 0.0), 3.2e-4) and math.isclose(optimiser.rate("positions", 1.0), 3.2e-6)
    assert math.isclose(optimiser.rate("planes", 0.5), 1.6e-3 * 0.1**0.5) and optimiser.rate("colours", 1.0) == 2.5e-3
