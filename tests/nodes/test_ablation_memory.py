"""The backbones that 4D-fy's tables compare have as many numbers as its hash grids ("equal memory"), in both sizes and as their sets make them."""

import pytest
from test_field_nodes import call, nodes  # noqa: F401  (a fixture)

SAME = 0.15  # part by which the numbers may differ, either way
BASE = {"initial_density": "soft ball", "blob_radius": 0.55, "background": {"background": "none"}, "seed": 0}


def numbers(nodes, kind, size):  # noqa: F811
    scene = call(getattr(nodes["field"], kind), **{**BASE, "size": {"size": size}})[0]
    return sum(value.numel() for value in scene.field.parameters())


@pytest.mark.parametrize("size", ["demo", "4D-fy"])
@pytest.mark.parametrize("kind", ["Bloom4DSingleGridField", "Bloom4DHexPlaneField"])
def test_a_backbone_has_as_many_numbers_as_both_hash_grids(nodes, kind, size):  # noqa: F811
    grids, other = numbers(nodes, "Bloom4DHashField", size), numbers(nodes, kind, size)
    assert 1 - SAME < other / grids < 1 + SAME, (other, grids)


def test_4dfys_grids_are_as_large_as_its_paper_says(nodes):  # noqa: F811
    """16 levels of at most 2^19 entries of two numbers, coarsest 16: 3D and 4D, and two decoders 32-64-1 and 32-64-3."""
    sizes = [16, 24, 34, 49, 71, 102, 148, 213, 308, 446, 646, 934, 1352, 1956, 2831, 4096]
    tables = sum(2 * min(size**dimensions, 2**19) for size in sizes for dimensions in (3, 4))
    assert numbers(nodes, "Bloom4DHashField", "4D-fy") == pytest.approx(tables + 2 * 32 * 64 + 64 * 4, rel=0.01)


@pytest.mark.parametrize("name", ["fourdfy", "dream_in_4d"])
def test_the_rows_of_the_sets_are_of_those_sizes(nodes, name):  # noqa: F811
    from ablations import variants

    made = variants.load_set(name)
    fields = {row: next(node for node in variants.build(made, row, 0).values() if node["_meta"]["title"] == "Field") for row in made.rows}
    swapped = {row: node for row, node in fields.items() if node["class_type"] != "Bloom4DHashField"}
    assert "HexPlane" in swapped
    grids = numbers(nodes, "Bloom4DHashField", fields["full"]["inputs"]["size"])
    for row, node in swapped.items():
        assert 1 - SAME < numbers(nodes, node["class_type"], node["inputs"]["size"]) / grids < 1 + SAME, row
