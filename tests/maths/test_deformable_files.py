"""Deformable fields as files: whatever the canonical field is, they come back as they were, and no other canonical field passes for it."""

import json

import pytest
import torch
from deformable_scenes import (
    TINY_DISPLACEMENT, awake, deformable, deformable_gaussians, gaussian_canonical, hash_canonical, hexplane_canonical, moments, moving_hash_canonical, points, seeded,
    single_grid_canonical, sums,
)  # fmt: skip
from fuzzing.tensor_files import TensorFile, joined
from test_deformable import advance, distiller

from bloom4d.models.fields.deformed import RELEARNED_BACKGROUND
from bloom4d.models.fields.displacement import DisplacementConfig
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.scene import Scene, describe_field
from bloom4d.models.optimize.scene_files import DEEPEST, load_scene, save_scene

FIELDS = {
    "hash": lambda: awake(deformable()),
    "moving hash at another time": lambda: awake(deformable(moving_hash_canonical(), time=0.4, scale=1.5, background=RELEARNED_BACKGROUND)),
    "single grid": lambda: awake(deformable(single_grid_canonical())),
    "hexplane": lambda: awake(deformable(hexplane_canonical())),
    "deformable": lambda: awake(deformable(awake(deformable()))),
    "positional encoding": lambda: awake(deformable(shape=DisplacementConfig(None, 3, 16, 1))),
    "gaussians": lambda: awake(deformable_gaussians()),
    "moving gaussians": lambda: awake(deformable_gaussians(gaussian_canonical(moving=True), scale=2.0)),
}


def saved(field, folder):
    path = folder / "field.safetensors"
    save_scene(Scene(field), path)
    return path


@pytest.mark.parametrize("kind", FIELDS)
def test_a_deformable_field_over_any_canonical_one_survives_a_file(kind, tmp_path):
    field = FIELDS[kind]()
    field.set_levels(0, 1.5)
    other = load_scene(saved(field, tmp_path)).field
    assert type(other) is type(field) and describe_field(other) == describe_field(field) and sums(other) == sums(field)
    if "gaussians" in kind:
        assert all(torch.equal(value, other.at(moments(3)).attributes()[name]) for name, value in field.at(moments(3)).attributes().items())
    else:
        assert all(torch.equal(one, two) for one, two in zip(field(points(), moments()), other(points(), moments())))


def damaged(path, change) -> str:
    """The first line that a file is refused with after `change` of its description and tensors."""
    file = TensorFile.read(path, "bloom4d")
    document = json.loads(file.header["__metadata__"]["bloom4d"])
    data = bytearray(file.data)
    change(document["field"], data)
    header = {**file.header, "__metadata__": {**file.header["__metadata__"], "bloom4d": json.dumps(document)}}
    path.write_bytes(joined(header, bytes(data)))
    with pytest.raises(ValueError) as refused:
        load_scene(path)
    return str(refused.value).splitlines()[0]



def no_canonical(field, data):
    del field["canonical"]


def unknown_canonical(field, data):
    field["canonical"]["kind"] = "wheel"


def no_hash(field, data):
    del field["canonical_hash"]


def a_cloud_for_a_density(field, data):
    field["canonical"] |= {"kind": "dynamic gaussians", "config": {"degree": 0, "deformation": None}}


def another_shape(field, data):
    field["canonical"]["config"]["hidden"] = 8


def wrong_scale(field, data):
    field["config"]["scale"] = 0


def without_end(field, data):
    description = field["canonical"]
    for _ in range(DEEPEST + 1):
        description = {"kind": "deformable", "config": field["config"], "canonical": description}
    field["canonical"] = description


@pytest.mark.parametrize(("change", "told"), [
    (no_canonical, "names no kind of field"),
    (unknown_canonical, 'kind "wheel" is unknown'),
    (no_hash, "not the one that it was saved with"),
    (a_cloud_for_a_density, "holds no positions of Gaussians"),
    (another_shape, "canonical.density_decoder.weights.0 is 16 x 6 and should be 8 x 6"),
    (wrong_scale, "Change deformation_scale"),
    (without_end, "nested more than 8 deep"),
])  # fmt: skip
def test_a_damaged_file_is_refused_with_what_is_wrong(change, told, tmp_path):
    line = damaged(saved(awake(deformable()), tmp_path), change)
    assert '"field.safetensors" is a damaged field' in line and told in line


def test_a_canonical_field_that_was_changed_by_one_bit_is_refused(tmp_path):
    path = saved(awake(deformable()), tmp_path)
    file = TensorFile.read(path, "bloom4d")
    for name, passes in (("field.canonical.static.table", False), ("field.moving.grid.table", True)):
        place = file.header[name]["data_offsets"][0]
        data = bytearray(file.data)
        data[place] ^= 1
        path.write_bytes(joined(file.header, bytes(data)))
        if passes:
            assert load_scene(path).field.canonical_hash() == awake(deformable()).canonical_hash()
        else:
            with pytest.raises(ValueError, match="its canonical field is not the one that it was saved with"):
                load_scene(path)


def test_a_checkpoint_over_another_canonical_field_is_refused_with_the_difference(tmp_path):
    store = CheckpointStore(tmp_path)
    store.write(1, *advance(distiller(deformable()), 1).snapshot())
    trained = hash_canonical()
    with torch.no_grad():
        trained.static.table.normal_(generator=seeded(8))
    with pytest.raises(ValueError, match="made with another field: its canonical_hash is"):
        distiller(deformable(trained)).restore(store.latest())
    with pytest.raises(ValueError, match="made with another field: its scale is 1.0, here it is 2.0"):
        distiller(deformable(scale=2.0)).restore(store.latest())
    with pytest.raises(ValueError, match="made with another field: its canonical"):
        distiller(deformable(single_grid_canonical())).restore(store.latest())
    distiller(deformable(shape=TINY_DISPLACEMENT)).restore(store.latest())
