"""The torch core on a CUDA device gives what it gives on the CPU, which every other test of this folder looks at.

Everything but long sums is compared in double, where no rounding moves a sample across a border.
"""

import copy
import math

import pytest
import torch
from splat_scenes import cloud
from toy_scenes import RIG, ball_prior, hybrid_stage, tiny_renderer, tiny_scene
from untrained import untrained_prior

from bloom4d.models.fields.hash_field import HashField
from bloom4d.models.fields.hash_grid import HashGrid, HashGridConfig
from bloom4d.models.geometry.cameras import CameraSampler, orbit, view_time_grid
from bloom4d.models.geometry.isosurface import isosurface
from bloom4d.models.geometry.meshes import grid_faces
from bloom4d.models.guidance.regularisers import penalty
from bloom4d.models.networks.joint_prior import alpha_bar
from bloom4d.models.networks.patch_codec import PatchCodec
from bloom4d.models.networks.prior_sampling import PriorSampler, Views
from bloom4d.models.networks.text_encoder import END_TOKEN
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.refine import Refinement, Refiner
from bloom4d.models.optimize.roles import RoleOptimiser
from bloom4d.models.optimize.runs import Pace, run
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import LearningRates
from bloom4d.models.render.frames import render_frames
from bloom4d.models.gaussians.dynamic import DynamicGaussians
from bloom4d.models.render import backend, splats
from bloom4d.models.render.mesh import rasterise
from bloom4d.models.render.splat_projection import SplatSettings
from bloom4d.models.render.splat_renderer import SplatRenderer
from bloom4d.models.render.sheets import contact_sheet
from bloom4d.models.render.silhouettes import edges_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU; none is here")

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RATES = LearningRates(static=1e-2, dynamic=1e-2, decoder=1e-3)


@pytest.fixture(autouse=True)
def exact_arithmetic(monkeypatch):
    """Convolutions in full single precision, and sums in a fixed order where torch has one."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def same(found, expected, tolerance=1e-9):
    """Equal up to `tolerance` of the largest expected value, and on the GPU."""
    assert found.device.type == GPU.type and found.shape == expected.shape
    assert (found.cpu() - expected).abs().max() <= tolerance * expected.abs().max()


def moving_field(dtype=torch.float64) -> HashField:
    """A field whose tables are rough enough that every place and time differs."""
    field = tiny_scene().field.to(dtype)
    with torch.no_grad():
        for table in (field.static.table, field.dynamic.table):
            table.normal_(std=0.3, generator=seeded(1))
    return field


def scene_on(device) -> Scene:
    return Scene(tiny_scene().field.to(device))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-3)])
@pytest.mark.parametrize(
    "config",
    [
        HashGridConfig(dimensions=3, levels=6, base_resolution=4, growth=1.7, log2_table=10),
        HashGridConfig(dimensions=4, levels=5, base_resolution=4, growth=1.7, log2_table=10),
        HashGridConfig(dimensions=4, levels=5, base_resolution=4, growth=1.7, log2_table=10, time_ratio=0.5, time_cap=6),
    ],
    ids=["3D", "4D", "4D capped in time"],
)
def test_hash_grid_and_its_gradients(config, dtype, tolerance):
    def outcome(device):
        grid = HashGrid(config, seeded()).to(device, dtype)
        with torch.no_grad():
            grid.table.copy_(torch.randn(grid.table.shape, generator=seeded(1)))
        points = torch.rand(3000, config.dimensions, generator=seeded(2), dtype=torch.float64).to(device, dtype).requires_grad_()
        features = grid(points, active=config.levels - 0.5)
        weights = torch.randn(features.shape, generator=seeded(3), dtype=torch.float64).to(features)
        return features.detach(), *torch.autograd.grad((features * weights).sum(), (grid.table, points))

    features, table, points = zip(outcome(GPU), outcome(CPU))
    same(*features, tolerance)
    same(*table, tolerance)
    if dtype == torch.float64:  # in single precision a point may lie on the other side of a cell's border, where the slope jumps
        same(*points, tolerance)


def test_occupancy_takes_the_same_cells_with_the_same_numbers():
    renderer, states = tiny_renderer(), []
    for device in (GPU, CPU):
        field = moving_field().to(device)
        state = renderer.new_state(field)
        for step in range(0, 20, 4):  # beyond the warm-up, where cells are drawn
            renderer.update(field, state, step, seeded(step), progress=step / 20)
        states.append(state)
    same(states[0].opacity, states[1].opacity)
    assert torch.equal(states[0].occupied.cpu(), states[1].occupied) and torch.equal(states[0].reachable.cpu(), states[1].reachable)
    assert 0 < states[1].occupied.double().mean() < 1


@pytest.mark.parametrize("chunk", [0, 100])
def test_volume_renders_and_their_gradients(chunk):
    def outcome(device):
        field, renderer, cameras = moving_field().to(device), tiny_renderer(), view_time_grid(2, 3).to(device, torch.float64)
        views = renderer.render_views(field, renderer.new_state(field), cameras, 12, 12, seed=4, chunk=chunk, facing_away=True)
        weights = torch.randn(views.rgb.shape, generator=seeded(5), dtype=torch.float64).to(device)
        regularisers = penalty({"opaque": 0.1, "sparsity": 0.1, "z_variance": 1.0, "orientation": 1.0}, views)
        ((views.rgb * weights).sum() + views.depth.sum() + regularisers).backward()
        return views, {name: parameter.grad for name, parameter in field.named_parameters()}

    (views, gradients), (expected, wanted) = outcome(GPU), outcome(CPU)
    assert views.samples == expected.samples > 0
    for name in ("rgb", "opacity", "depth", "z_variance"):
        same(getattr(views, name).detach(), getattr(expected, name).detach())
    for name, gradient in wanted.items():
        same(gradients[name], gradient, 1e-7)


def splat_outcome(device, name, dtype=torch.float64, **settings):
    """Maps of two pictures of 500 Gaussians each and the gradients of all attributes, by the backend of this name."""
    leaves = [value.to(device, dtype).requires_grad_() for value in cloud(500, seed=1, batch=2, size=0.05)]
    cameras = view_time_grid(2, 1).to(device, dtype)
    later = leaves[0].detach() + 0.05
    seen = splats.rasterise(*leaves, cameras.camera_to_world, cameras.fov_y, 37, 50, SplatSettings(**settings), later, backend=name)
    maps = torch.cat([seen.rgb, seen.alpha[..., None], seen.depth[..., None], seen.flow], dim=-1)
    weights = torch.randn(maps.shape, generator=seeded(5), dtype=torch.float64).to(maps)
    return maps.detach(), torch.autograd.grad((maps * weights).sum(), leaves)


@pytest.mark.parametrize("budget", [1 << 28, 1 << 17])
def test_splats_and_their_gradients(budget):
    (maps, gradients), (expected, wanted) = (splat_outcome(device, "torch", bytes_at_once=budget) for device in (GPU, CPU))
    same(maps, expected)
    for gradient, other in zip(gradients, wanted):
        same(gradient, other, 1e-8)


@pytest.mark.parametrize("name", [twin.name for twin in backend.TWINS if twin.operation == "splats"])
def test_fast_splats_agree_with_the_reference(name):
    row = next(row for row in backend.rows("splats", GPU) if row.name == name)
    if not row.usable:
        pytest.skip(f"{name}: {row.reason}")
    (maps, gradients), (expected, wanted) = splat_outcome(GPU, name, torch.float32), splat_outcome(CPU, "torch")
    off = (maps.cpu() - expected).abs() > 1e-4 * expected.abs().max()
    assert off.any(dim=-1).double().mean() < 1e-3  # pixels with a pair at a threshold, which rounding puts on either side
    for gradient, other in zip(gradients, wanted):
        assert (gradient.cpu() - other).norm() < 1e-2 * other.norm()


@pytest.mark.parametrize("chunk", [0, 200])
def test_fields_of_gaussians_and_their_gradients(chunk):
    def outcome(device):
        field = DynamicGaussians(generator=seeded(0), count=300).to(device, torch.float64)
        cameras, renderer = view_time_grid(2, 3).to(device, torch.float64), SplatRenderer()
        views = renderer.render_views(field, renderer.new_state(field), cameras, 12, 12, None, chunk)
        (views.rgb.square().sum() + views.depth.sum() + views.z_variance.sum()).backward()
        return views, {name: parameter.grad for name, parameter in field.named_parameters() if parameter.grad is not None}

    (views, gradients), (expected, wanted) = outcome(GPU), outcome(CPU)
    assert views.samples == expected.samples > 0 and gradients.keys() == wanted.keys()
    for name in ("rgb", "opacity", "depth", "z_variance"):
        same(getattr(views, name).detach(), getattr(expected, name).detach(), 1e-8)
    for name in (name for name, gradient in wanted.items() if gradient.numel()):
        same(gradients[name], wanted[name], 1e-7)


def test_frames_with_normals_and_sheets_come_back_to_the_cpu():
    def outcome(device):
        field, renderer, cameras = moving_field().to(device), tiny_renderer(), view_time_grid(2, 2).to(torch.float64)
        frames = render_frames(field, renderer, cameras, 10, 10)
        return frames.rgb, frames.depth, frames.normals, contact_sheet(field, renderer, renderer.new_state(field), cameras.to(device), 2, 10, 2)

    for found, expected in zip(outcome(GPU), outcome(CPU)):
        assert found.device == CPU and (found - expected).abs().max() < 1e-8


def test_isosurface():
    field, times = moving_field(), torch.tensor([0.2, 0.9], dtype=torch.float64)
    expected, found = isosurface(field, times, 24, threshold=5.0), isosurface(field.clone().to(GPU), times.to(GPU), 24, threshold=5.0)
    assert torch.equal(found.faces.cpu(), expected.faces) and torch.equal(found.face_counts, expected.face_counts)
    same(found.vertices, expected.vertices, 1e-6)  # marching cubes work in single precision
    same(found.colours, expected.colours, 1e-5)


@pytest.mark.parametrize("smooth", [False, True], ids=["inside", "silhouettes"])
def test_mesh_rasteriser_and_its_gradients(smooth):
    polar, angle = torch.linspace(0, math.pi, 24, dtype=torch.float64), torch.arange(32, dtype=torch.float64)[:, None] * (2 * math.pi / 32)
    ball = torch.stack(torch.broadcast_tensors(polar.sin() * angle.sin(), -polar.cos() + 0 * angle, polar.sin() * angle.cos()), -1).view(1, -1, 3)
    angles = (torch.tensor([value], dtype=torch.float64) for value in (0.4, 0.3, 3.0))
    pose, fov = orbit(*angles), torch.tensor([0.7], dtype=torch.float64)

    def outcome(device):
        vertices, faces = (0.7 * ball).to(device).requires_grad_(), grid_faces(1, 32, 24, True).to(device)
        edges = edges_of(faces) if smooth else None
        drawn = rasterise(vertices, faces, ball[0].to(device), pose.to(device), fov.to(device), 48, 48, edges=edges)
        weights = torch.randn(drawn.attributes.shape, generator=seeded(6), dtype=torch.float64).to(device)
        return drawn, torch.autograd.grad((drawn.attributes * weights).sum(), vertices)[0]

    (drawn, gradient), (expected, wanted) = outcome(GPU), outcome(CPU)
    assert torch.equal(drawn.face_id.cpu(), expected.face_id) and expected.mask.any()
    same(drawn.depth.detach(), expected.depth.detach())
    same(drawn.attributes.detach(), expected.attributes.detach())
    same(gradient, wanted, 1e-7)


def distiller(device, steps=12, chunk=0) -> Distiller:
    return Distiller(scene_on(device), hybrid_stage(rates=RATES), [ball_prior()] * 3, tiny_renderer(), steps, seed=2, chunk=chunk)


@pytest.mark.parametrize("chunk", [0, 300])
def test_a_step_of_distillation_has_the_gradients_of_the_cpu(chunk):
    jobs = [distiller(device, chunk=chunk) for device in (GPU, CPU)]
    rows = [job._gather() for job in jobs]
    for key, expected in rows[1][0].items():
        assert rows[0][0][key] == pytest.approx(expected, rel=1e-3, nan_ok=True), key
    for (name, found), (_, expected) in zip(*(job.work.field.named_parameters() for job in jobs)):
        assert (found.grad is None) == (expected.grad is None), name
        if expected.grad is not None:
            assert (found.grad.cpu() - expected.grad).norm() <= 0.01 * expected.grad.norm(), name


def test_distillation_goes_the_way_of_the_cpu():
    jobs = [distiller(device) for device in (GPU, CPU)]
    assert all(map(run, jobs))
    found, expected = (job.scene() for job in jobs)
    assert found.history[0].columns["term"] == expected.history[0].columns["term"]
    assert found.history[0].columns["level"] == expected.history[0].columns["level"]  # every random number is the CPU's
    assert found.history[0].losses() == pytest.approx(expected.history[0].losses(), rel=0.1)
    assert jobs[0].preview().device == CPU and next(found.field.parameters()).device.type == GPU.type


def moved(field, other) -> float:
    """Mean distance of two fields' tables."""
    return sum(float((a.cpu() - b.cpu()).abs().mean()) for a, b in zip(field.parameters(), other.parameters()))


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    store, whole = CheckpointStore(tmp_path), distiller(GPU)
    for _ in range(6):
        whole.advance()
    store.write(6, *whole.snapshot())
    resumed = distiller(GPU)
    resumed.restore(store.latest())
    kept, (again, _) = store.latest().tensors, resumed.snapshot()
    for name, value in again.items():
        assert torch.equal(value.cpu().double().nan_to_num(), kept[name].double().nan_to_num()), name
    forgetful = copy.deepcopy(resumed)
    forgetful.work.optimiser = RoleOptimiser(forgetful.work.field, RATES)  # negative control: without Adam's moments
    for job in (whole, resumed, forgetful):
        assert run(job, pace=Pace(preview=0))
    distance = moved(whole.work.field, tiny_scene().field)
    assert moved(whole.work.field, resumed.work.field) < 0.01 * distance < moved(whole.work.field, forgetful.work.field)


def test_a_checkpoint_of_one_device_serves_the_other(tmp_path):
    for index, (first, second) in enumerate(((GPU, CPU), (CPU, GPU))):
        store, begun, taken_over = CheckpointStore(tmp_path / str(index)), distiller(first), distiller(second)
        for _ in range(6):
            begun.advance()
        store.write(6, *begun.snapshot())
        taken_over.restore(store.latest())
        assert run(taken_over) and {value.device.type for value in taken_over.work.optimiser.tensors().values()} == {second.type}


def test_refinement_runs_and_resumes(tmp_path):
    prior = ball_prior()
    prior.decode = lambda latents: (latents.movedim(1, -1)[..., :3].clamp(0, 1), latents[:, 3].clamp(0, 1))
    config = Refinement(CameraSampler(views=2, frames=2, **RIG), denoising_steps=2, pool=12, steps_per_round=5, rays=256)

    def job(device):
        return Refiner(scene_on(device), prior, tiny_renderer(), config, 12, seed=1)

    first, expected, store = job(GPU), job(CPU), CheckpointStore(tmp_path)
    assert run(first, store) and run(expected)
    assert first.scene().history[0].losses() == pytest.approx(expected.scene().history[0].losses(), rel=0.1)
    again = job(GPU)
    again.restore(store.latest())
    for name, value in vars(again.pool).items():
        assert value.device.type == GPU.type and torch.equal(value, getattr(first.pool, name)), name


def test_construction_goes_the_way_of_the_cpu_and_resumes(tmp_path):
    from test_construct import working

    jobs = [working(device=device) for device in (GPU, CPU)]
    assert all(map(run, jobs))
    found, expected = (job.scene() for job in jobs)
    early = len(expected.history[0].columns["loss"]) // 4  # a cloud of another size follows from a rounding at a threshold
    assert found.history[0].columns["loss"][:early] == pytest.approx(expected.history[0].columns["loss"][:early], rel=0.05)
    assert jobs[0].preview().device == CPU and found.field.positions.device.type == GPU.type
    for first, second in ((GPU, CPU), (CPU, GPU)):
        store, begun, taken_over = CheckpointStore(tmp_path / first.type), working(device=first), working(device=second)
        for _ in range(9):
            begun.advance()
        store.write(9, *begun.snapshot())
        taken_over.restore(store.latest())
        assert run(taken_over) and taken_over.gaussians.positions.device.type == second.type
        assert taken_over.gaussians.bake(3).positions.device == CPU


def tokenise(prompts: tuple[str, ...]) -> torch.Tensor:
    """Letters as tokens."""
    numbers = torch.full((len(prompts), 77), END_TOKEN)
    for row, prompt in zip(numbers, prompts):
        row[: len(prompt)] = torch.tensor([ord(letter) for letter in prompt], dtype=torch.int64)
    return numbers


@pytest.mark.parametrize("given", [False, True], ids=["from noise", "from a clean frame"])
def test_the_embedded_prior_samples_the_same_pictures(given):
    denoiser, text, _ = untrained_prior()
    networks = denoiser, text, PatchCodec.fit(torch.rand(40, 4, 64, 64, generator=seeded(8)))
    azimuth, times = torch.tensor([[0.0, 1.5, -2.0]]), torch.tensor([[0.0, 0.5, 1.0]])
    views = Views(3, azimuth, 0.2 * torch.ones(1, 3), times)
    if given:
        pictures = torch.rand(2, 3, 4, 64, 64, generator=seeded(7))
        views = Views(3, azimuth, 0.2 * torch.ones(1, 3), times, clean=torch.tensor([[True, False, False]] * 2), pictures=pictures)

    def sampled(device):
        sampler = PriorSampler(*(network.to(device) for network in networks), tokenise, alpha_bar())
        return sampler.sample(("a rose", "a candle"), views, steps=3)

    expected = sampled(CPU)
    same(sampled(GPU), expected, 1e-3)
    assert expected.std() > 0.01


@pytest.mark.parametrize("dimensions", [3, 4])
def test_the_warp_hash_grid_finds_the_same_cells(dimensions):
    """In single precision on both sides, since the kernels know no other; indexing has no tolerance."""
    pytest.importorskip("warp")
    config = HashGridConfig(dimensions=dimensions, levels=6, base_resolution=4, growth=1.7, log2_table=10)

    def outcome(name):
        points = torch.rand(3000, dimensions, generator=seeded(2)).to(GPU).requires_grad_()
        table = torch.randn(config.entries, 2, generator=seeded(1)).to(GPU).requires_grad_()
        features = backend.implementation("hash grid", GPU, name)(points, table, config, 5.5, 14)
        weights = torch.randn(features.shape, generator=seeded(3)).to(GPU)
        return features.detach(), *torch.autograd.grad((features * weights).sum(), (table, points))

    (features, table, points), (expected, wanted, slopes) = outcome("warp"), outcome("torch")
    same(features, expected.cpu(), 1e-5)
    same(table, wanted.cpu(), 1e-4)
    same(points, slopes.cpu(), 1e-4)
    assert torch.equal(table == 0, wanted == 0)


def test_a_step_by_the_kernels_is_that_of_the_reference(monkeypatch):
    """The whole way of a picture: occupancy, samples, encoding, gradient."""
    pytest.importorskip("warp")

    def outcome(name):
        monkeypatch.setenv("BLOOM4D_BACKEND", name)
        field, renderer, cameras = moving_field(torch.float32).to(GPU), tiny_renderer(), view_time_grid(2, 3).to(GPU)
        views = render_views(renderer, field, renderer.new_state(field), cameras, 12, 12, seed=4)
        views.rgb.square().sum().backward()
        return views.rgb.detach(), field.static.table.grad

    for found, expected in zip(outcome("warp"), outcome("torch")):
        assert (found - expected).norm() <= 1e-3 * expected.norm() and expected.any()
