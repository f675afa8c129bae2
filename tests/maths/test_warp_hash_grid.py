"""The warp twin of the hash grid against the reference: indexing bit for bit, values to 1e-5, gradients to 1e-4."""

import copy
import os
import subprocess
import sys
import threading

import pytest
import torch
from bloom4d.models.fields.hash_field import DEMO_FIELD, HashField
from bloom4d.models.fields.hash_grid import HashGrid, HashGridConfig, encode
from bloom4d.models.render import backend, warp_hash_grid
from bloom4d.models.render.volume import VolumeRenderer
from rooms import ROOT

pytest.importorskip("warp")
CONFIGS = {
    "3D": HashGridConfig(dimensions=3, levels=6, base_resolution=4, growth=1.7, log2_table=10),
    "4D": HashGridConfig(dimensions=4, levels=5, base_resolution=4, growth=1.7, log2_table=10),
    "4D capped in time": HashGridConfig(dimensions=4, levels=5, base_resolution=4, growth=1.5, log2_table=11, time_ratio=0.5, time_cap=3),
    "demo, dynamic": DEMO_FIELD.dynamic,
    "published": HashGridConfig(dimensions=3),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points_of(config, count=3000, dtype=torch.float32):
    """Random points, and the corners of the cube, where dense levels wrap around."""
    points = torch.rand(count, config.dimensions, generator=seeded(2), dtype=dtype)
    points[:3] = torch.tensor([[0.0] * 4, [1.0] * 4, [0.999, 0.02, 1.0, 1.0]])[:, : config.dimensions]
    return points


def table_of(config, dtype=torch.float32):
    return torch.randn(config.entries, 2, generator=seeded(1), dtype=dtype)


def outcome(encoder, config, active, width=None, dtype=torch.float32, points=None):
    """Features and both gradients of a random linear loss, in double."""
    points = (points_of(config) if points is None else points).to(dtype).requires_grad_(True)
    table = table_of(config).to(dtype).requires_grad_(True)
    width = 2 * config.levels if width is None else width
    features = encoder(points, table, config, float(active), width)
    weights = torch.randn(features.shape, generator=seeded(3)).to(dtype)
    return [value.detach().double() for value in (features, *torch.autograd.grad((features * weights).sum(), (table, points)))]


def close(found, expected, tolerance):
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("share", [1.0, 0.55])
def test_values_and_gradients_equal_the_reference(config, share):
    features, table, points = outcome(warp_hash_grid.encode, config, share * config.levels)
    expected, table_expected, points_expected = outcome(encode, config, share * config.levels)
    assert close(features, expected, 1e-5) and close(table, table_expected, 1e-4) and close(points, points_expected, 1e-4)
    assert torch.equal(table == 0, table_expected == 0)  # the very same rows: indexing has no tolerance


def test_values_and_gradients_equal_double_precision():
    """Away from cell borders, where single precision may find another cell."""
    config = CONFIGS["3D"]
    points = points_of(config)
    for level in config.layout:
        place = points * torch.tensor(level.scales) + torch.tensor(level.shifts)
        points = torch.where((place - place.round()).abs() < 1e-4, points + 3e-4, points)
    found, expected = outcome(warp_hash_grid.encode, config, 6, points=points), outcome(encode, config, 6, dtype=torch.float64, points=points)
    assert close(found[0], expected[0], 1e-5) and close(found[1], expected[1], 1e-4) and close(found[2], expected[2], 1e-4)


def test_another_layout_is_told_apart():
    """The negative control: the comparison fails as soon as one level is read elsewhere."""
    config = CONFIGS["3D"]
    other = HashGridConfig(**{**vars(config), "growth": 1.71}) if "layout" not in vars(config) else HashGridConfig(
        dimensions=3, levels=6, base_resolution=4, growth=1.71, log2_table=10)
    table = torch.randn(max(config.entries, other.entries), 2, generator=seeded(1))
    features = warp_hash_grid.encode(points_of(config), table[: other.entries], other, 6.0, 12)
    assert not close(features.double(), encode(points_of(config), table[: config.entries], config, 6.0, 12).double(), 1e-5)


@pytest.mark.parametrize("count", [0, 1, 5, 1023, 1025])
def test_any_number_of_points(count):
    config = CONFIGS["4D"]
    points = points_of(config)[:count]
    for found, expected in zip(outcome(warp_hash_grid.encode, config, 5, points=points), outcome(encode, config, 5, points=points)):
        assert found.shape == expected.shape and (count == 0 or close(found, expected, 1e-4))


def test_padding_no_levels_strided_points_and_broadcast_gradients():
    config = CONFIGS["3D"]
    features = warp_hash_grid.encode(points_of(config), table_of(config), config, 6.0, 20)
    assert features.shape == (3000, 20) and not features[:, 12:].any() and features[:, :12].any(dim=0).all()
    assert not warp_hash_grid.encode(points_of(config), table_of(config), config, 0.0, 12).any()
    strided = points_of(config).t().contiguous().t()
    assert not strided.is_contiguous()
    assert torch.equal(warp_hash_grid.encode(strided, table_of(config), config, 6.0, 12), features[:, :12])
    table = table_of(config).requires_grad_(True)
    warp_hash_grid.encode(points_of(config), table, config, 6.0, 12).sum().backward()  # its gradient has no memory of its own
    wanted = table_of(config).requires_grad_(True)
    encode(points_of(config), wanted, config, 6.0, 12).sum().backward()
    assert close(table.grad, wanted.grad, 1e-4)


def test_only_what_is_asked_for_gets_a_gradient():
    config = CONFIGS["3D"]
    points, table = points_of(config), table_of(config).requires_grad_(True)
    assert torch.autograd.grad(warp_hash_grid.encode(points, table, config, 6.0, 12).sum(), table)[0].any()
    points.requires_grad_(True)
    assert torch.autograd.grad(warp_hash_grid.encode(points, table.detach(), config, 6.0, 12).square().sum(), points)[0].any()


def test_numbers_that_are_not_finite_stay_in_the_table():
    config = CONFIGS["3D"]
    points = torch.tensor([[float("nan")] * 3, [float("inf")] * 3, [1e30] * 3, [-5.0] * 3, [0.5] * 3])
    table = table_of(config).requires_grad_(True)
    features = warp_hash_grid.encode(points, table, config, 6.0, 12)
    features.sum().backward()
    assert features[4].isfinite().all() and not features[0].isfinite().any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bytes_depend_neither_on_chance_nor_on_the_number_of_threads(threads):
    config, before = CONFIGS["4D"], torch.get_num_threads()
    alone = outcome(warp_hash_grid.encode, config, 4.5)
    try:
        torch.set_num_threads(threads)
        for found, expected in zip(outcome(warp_hash_grid.encode, config, 4.5), alone):
            assert torch.equal(found, expected)
    finally:
        torch.set_num_threads(before)


def test_it_runs_in_other_threads_and_under_inference_mode():
    config, found = CONFIGS["3D"], []
    expected = encode(points_of(config), table_of(config), config, 6.0, 12)

    def work():
        with torch.inference_mode():
            found.append(warp_hash_grid.encode(points_of(config), table_of(config), config, 6.0, 12))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(close(features, expected, 1e-5) for features in found)


def test_double_precision_goes_to_the_reference():
    config = CONFIGS["3D"]
    points, table = points_of(config, dtype=torch.float64), table_of(config, torch.float64)
    assert torch.equal(warp_hash_grid.encode(points, table, config, 6.0, 12), encode(points, table, config, 6.0, 12))


def test_a_rendered_field_encodes_by_the_twin_and_its_copy_starts_anew(monkeypatch):
    monkeypatch.setenv("BLOOM4D_BACKEND", "warp")
    field, renderer = HashField(), VolumeRenderer()
    assert field.static.encoder is encode
    state = renderer.new_state(field)
    assert field.static.encoder is field.dynamic.encoder is warp_hash_grid.encode
    copied = field.clone()
    assert copied.static.encoder is encode and set(copied.state_dict()) == set(field.state_dict())
    monkeypatch.setenv("BLOOM4D_BACKEND", "torch")
    expected = renderer.new_state(copied)
    assert copied.static.encoder is encode and copy.deepcopy(copied).dynamic.encoder is encode
    assert close(state.opacity, expected.opacity, 1e-5) and torch.equal(state.occupied, expected.occupied)


COMPILE = """
import sys; sys.path.insert(0, {tools!r}); import pack; pack.load_pack()
import torch
from bloom4d.models.render import backend
print(next(row.usable for row in backend.rows("hash grid") if row.name == "warp"))
"""


def test_processes_may_compile_at_once_and_say_nothing(tmp_path):
    """Both start with an empty kernel cache; the set-up of a cluster or two hosts do so."""
    environment = {"WARP_CACHE_PATH": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    code = COMPILE.format(tools=str(ROOT / "tools"))
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=300) for process in both]
    assert [answer[0].split() for answer in answers] == [["True"], ["True"]], answers
    assert [answer[1] for answer in answers] == ["", ""]
    assert any(tmp_path.rglob("*.o"))


FOLDER = """
import logging, pathlib, sys; sys.path.insert(0, {tools!r}); import pack; pack.load_pack()
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
from bloom4d.models.render import backend
backend.keep_kernels_in(pathlib.Path(sys.argv[1]))
backend.choose("hash grid")
print(list(backend.kernel_folder.rglob("*.o")) != [])
"""


def test_kernels_are_kept_where_the_host_says_and_compiling_is_announced_once(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("WARP_CACHE_PATH", "BLOOM4D_BACKEND")}
    command = [sys.executable, "-c", FOLDER.format(tools=str(ROOT / "tools")), str(tmp_path / "kernels")]
    said = [subprocess.run(command, env=environment, capture_output=True, text=True).stdout.splitlines() for _ in range(2)]
    assert said[0] == ["Bloom4D: compiling its kernels, once: seconds for a CPU, up to a minute for a GPU", "Bloom4D: hash grid on cpu by warp", "True"]
    assert said[1] == said[0][1:]


def test_a_folder_that_can_not_be_made_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "kernel_folder", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    backend.keep_kernels_in(tmp_path / "file" / "kernels")
    assert backend.kernel_folder.is_dir() and backend.kernel_folder.parent == tmp_path


def test_a_grid_in_double_precision_is_the_reference_after_equipping():
    grid = HashGrid(CONFIGS["3D"], seeded()).double()
    backend.equip(grid, torch.device("cpu"))
    points = points_of(CONFIGS["3D"], dtype=torch.float64)
    assert torch.equal(grid(points), encode(points, grid.table, grid.config, 6.0, 12))
