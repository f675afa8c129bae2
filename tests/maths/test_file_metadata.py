"""Metadata of saved files: equal content gives equal bytes, any reader finds it, tensors are untouched by it."""

import json
import struct

import pytest
import torch
from bloom4d.models.fields.hash_field import HashField, HashFieldConfig
from bloom4d.models.formats.header import order_metadata
from bloom4d.models.formats.provenance import TRAINED, Provenance, mark
from bloom4d.models.formats.writing import write_tensors
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.scene_files import load_scene, save_scene
from safetensors import safe_open
from safetensors.torch import save

ODD = 'quote " backslash \\ newline \n tab \t bell \x07 delete \x7f Größe 花 🌹 \u2028 </script>'


def tensors() -> dict:
    return {"half": torch.arange(3, dtype=torch.float16), "wide": torch.linspace(0, 1, 5, dtype=torch.float64), "flag": torch.tensor([True])}


def read(path) -> tuple[dict, dict]:
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}


def test_many_keys_give_equal_bytes_and_the_library_reads_them(tmp_path):
    metadata = {f"key {number}": ODD for number in range(12)}
    written = set()
    for number, names in enumerate((list(metadata), list(reversed(metadata)))):
        path = tmp_path / f"{number}.safetensors"
        write_tensors(path, tensors(), {name: metadata[name] for name in names})
        written.add(path.read_bytes())
        found, values = read(path)
        assert found == metadata and all(torch.equal(values[name], value) for name, value in tensors().items())
    assert len(written) == 1


def test_the_library_alone_has_no_fixed_order():
    """The reason for all this; when it fails, the library has learnt to sort and ours can go."""
    assert len({save(tensors(), {f"key {key}": "" for key in range(12)}) for _ in range(20)}) > 1


def test_tensors_stay_where_they_are():
    before = save(tensors(), {"b": ODD, "a": "1"})
    after = order_metadata(before)
    length, = struct.unpack("<Q", after[:8])
    assert after[:8] == before[:8] and length % 8 == 0 and after[8 + length :] == before[8 + length :]
    order = [list(json.loads(data[8 : 8 + length])) for data in (before, after)]
    assert order[1] == ["__metadata__", *(name for name in order[0] if name != "__metadata__")]


def test_a_file_without_metadata_is_left_alone():
    assert order_metadata(save(tensors())) == save(tensors())


@pytest.mark.parametrize("provenance", [Provenance(), Provenance({"prompt": "{}", "workflow": ODD}, mark("9.9.9", True))])
def test_a_field_loads_the_same_whatever_its_file_tells(tmp_path, provenance):
    field = HashField(HashFieldConfig(), torch.Generator().manual_seed(0))
    save_scene(Scene(field), tmp_path / "field.safetensors", provenance)
    loaded = load_scene(tmp_path / "field.safetensors").field
    assert loaded.config == field.config
    assert all(torch.equal(value, field.state_dict()[name]) for name, value in loaded.state_dict().items())
    metadata, _ = read(tmp_path / "field.safetensors")
    assert metadata.keys() == {"bloom4d", *provenance.texts} and provenance.mark.items() <= json.loads(metadata["bloom4d"]).items()


def test_only_what_a_trained_model_made_is_called_ai_generated():
    assert mark("1.2.3", False) == {"generator": "Bloom4D 1.2.3"}
    assert mark("1.2.3", True)["digitalSourceType"] == TRAINED and TRAINED.endswith("/trainedAlgorithmicMedia")
