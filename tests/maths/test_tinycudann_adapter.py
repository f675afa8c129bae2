"""tinycudann as a backend: only by name, and told our layout. A stand-in written from its documentation takes its place here."""

import sys
import types

import pytest
import torch
from bloom4d.models.fields.hash_grid import HashGridConfig, encode
from bloom4d.models.render import backend, hash_grid_tinycudann

CONFIG = HashGridConfig(dimensions=3, levels=4, base_resolution=4, growth=1.7, log2_table=9)
CAPPED = HashGridConfig(dimensions=4, levels=3, base_resolution=4, growth=1.5, log2_table=11, time_cap=3)


class Encoding(torch.nn.Module):
    """As documented: flat parameters, level-major, two features an entry; positions in, all levels out."""

    def __init__(self, n_input_dims, encoding_config, seed=1337, dtype=None):
        super().__init__()
        told = encoding_config
        assert told["otype"] == "HashGrid" and told["n_features_per_level"] == 2 and told["interpolation"] == "Linear" and dtype == torch.float32
        self.config = HashGridConfig(n_input_dims, told["n_levels"], told["base_resolution"], told["per_level_scale"], told["log2_hashmap_size"])
        self.params = torch.nn.Parameter(torch.zeros(2 * self.config.entries + getattr(self, "more", 0)))

    def forward(self, x):
        return encode(x, self.params.view(-1, 2), self.config, float(self.config.levels), 2 * self.config.levels)


@pytest.fixture
def package(monkeypatch):
    """The stand-in, as an installed package."""
    module = types.ModuleType("tinycudann")
    module.Encoding = Encoding
    module.__spec__ = types.SimpleNamespace(name="tinycudann", loader=None)
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    hash_grid_tinycudann._encoding.cache_clear()
    yield module
    hash_grid_tinycudann._encoding.cache_clear()


def inputs(config=CONFIG):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(50, config.dimensions, generator=generator), torch.randn(config.entries, 2, generator=generator).requires_grad_(True)


@pytest.mark.parametrize("active", [4.0, 2.25, 1.0, 0.0])
def test_our_table_is_read_and_differentiated_and_levels_fade(package, active):
    results = []
    for encoder in (hash_grid_tinycudann.by_package, encode):
        positions, table = inputs()
        features = encoder(positions, table, CONFIG, active, 10)
        results.append((features.detach(), torch.autograd.grad(features.square().sum(), table)[0]))
    for found, expected in zip(*results):
        assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-6)


def test_its_own_parameters_take_no_memory(package):
    encoding, numbers = hash_grid_tinycudann._encoding(CONFIG, "cpu")
    assert encoding.params.numel() == 0 and numbers == 2 * CONFIG.entries


def test_another_layout_is_refused(package, monkeypatch):
    monkeypatch.setattr(Encoding, "more", 8, raising=False)
    with pytest.raises(RuntimeError, match=f"tinycudann has {2 * CONFIG.entries + 8} numbers in this grid"):
        hash_grid_tinycudann.by_package(*inputs(), CONFIG, 4.0, 8)


def test_it_waits_to_be_named_and_says_why_it_can_not_run(package, monkeypatch):
    monkeypatch.setattr(backend, "_proved", {})
    monkeypatch.delenv("BLOOM4D_BACKEND", raising=False)
    row = backend.rows("hash grid")[0]
    assert (row.name, row.usable) == ("tinycudann", False) and "only with BLOOM4D_BACKEND=tinycudann; unverified" in row.reason
    assert backend.choose("hash grid").name != "tinycudann"
    monkeypatch.setenv("BLOOM4D_BACKEND", "tinycudann")
    with pytest.raises(ValueError, match="tinycudann runs on CUDA devices only"):
        backend.choose("hash grid")
    assert backend.choose("volume rendering").name == "torch"


def test_without_the_package_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(backend, "_proved", {})
    monkeypatch.setenv("BLOOM4D_BACKEND", "tinycudann")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    assert backend.rows("hash grid")[0].reason == "not installed"
