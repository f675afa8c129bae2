"""The browser's file: its bytes read by an independent reader, its stated errors, its size, and what damaged ones are told."""

import json
import math
import struct
import sys
from pathlib import Path

import numpy
import pytest
import torch
from bloom4d.models.formats.viewer_file import ViewerSequence, pack_viewer_file, read_viewer_file, viewer_bytes
from bloom4d.models.gaussians.gaussians import Gaussians4D, harmonics_of
from bloom4d.models.gaussians.viewer import drawable, viewer_sequence

FIXTURE = Path(__file__).resolve().parent.parent / "web" / "write_viewer_fixture.py"


def random_sequence(frames=3, count=50, **changes) -> ViewerSequence:
    generator = torch.Generator().manual_seed(4)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    values = dict(
        positions=draw(frames, count, 3) * torch.tensor([2.0, 0.5, 8.0]) - 1,
        rotations=torch.nn.functional.normalize(torch.randn(frames, count, 4, generator=generator), dim=-1),
        scales=10 ** (draw(1, count, 3) * 4 - 3.5),
        opacities=draw(1, count),
        colours=draw(1, count, 3),
        times=torch.linspace(0, 1, frames),
    )
    return ViewerSequence(**{**values, **changes})


def parse(data: bytes) -> tuple[dict, dict]:
    """(header, arrays) by the format's own description: eight bytes of length, JSON, then the tensors."""
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    kinds = {"U16": "<u2", "I8": "i1", "U8": "u1"}
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            arrays[name] = numpy.frombuffer(data[8 + length + start : 8 + length + end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return header, arrays


def written(tmp_path, data: bytes):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    return path


def test_values_come_back_within_the_stated_errors(tmp_path):
    sequence = random_sequence(5, 400)
    read = read_viewer_file(written(tmp_path, pack_viewer_file(sequence)))
    box = sequence.positions.amax((0, 1)) - sequence.positions.amin((0, 1))
    assert ((read.positions - sequence.positions).abs() / box).max() <= 8e-6
    assert (read.rotations - sequence.rotations).abs().max() <= 0.004 + 0.004  # half a step each, before and after the length is made 1
    assert (read.scales / sequence.scales).log().abs().max() <= math.log(1.032)
    assert max((read.opacities - sequence.opacities).abs().max(), (read.colours - sequence.colours).abs().max()) <= 0.002
    assert torch.allclose(read.times, sequence.times) and read.fps == sequence.fps


def test_the_bytes_are_what_the_format_says():
    scales, look = torch.tensor([[[1.0, math.exp(-10), math.exp(5)]]]), torch.tensor([[[0.0, 1.0, 0.2]]])
    sequence = ViewerSequence(
        torch.tensor([[[0.0, -1.0, 2.0]], [[4.0, -1.0, 1.0]]]), torch.tensor([[[1.0, 0, 0, 0]], [[0, 0, -1.0, 0]]]), scales,
        torch.tensor([[0.6]]), look, torch.tensor([0.0, 1.0]), fps=12.5, metadata={"prompt": "a rose"},
    )  # fmt: skip
    header, arrays = parse(pack_viewer_file(sequence))
    assert arrays["position"].tolist() == [[[0, 0, 65535]], [[65535, 0, 0]]]
    assert arrays["rotation"].tolist() == [[[127, 0, 0, 0]], [[0, 0, -127, 0]]]
    assert arrays["logscale"].tolist() == [[160, 0, 240]] and arrays["rgba"].tolist() == [[0, 255, 51, 153]]
    metadata = header["__metadata__"]
    assert (metadata["frames"], metadata["count"], metadata["fps"], metadata["prompt"]) == ("2", "1", "12.5", "a rose")
    assert json.loads(metadata["aabb"]) == [[0.0, -1.0, 1.0], [4.0, 0.0, 1.0]] and json.loads(metadata["times"]) == [0.0, 1.0]


def test_typed_arrays_of_the_browser_may_lie_on_the_file():
    """An odd number of Gaussians: each tensor still begins at a multiple of its item's size."""
    data = pack_viewer_file(random_sequence(3, 7))
    length, = struct.unpack("<Q", data[:8])
    header, _ = parse(data)
    begins = sorted((entry["data_offsets"][0], name) for name, entry in header.items() if name != "__metadata__")
    assert length % 8 == 0 and begins[0] == (0, "position")


def test_equal_sequences_give_equal_bytes_and_metadata_never_hides_the_files_own():
    assert pack_viewer_file(random_sequence(metadata={"b": "1", "a": "2"})) == pack_viewer_file(random_sequence(metadata={"a": "2", "b": "1"}))
    assert parse(pack_viewer_file(random_sequence(metadata={"frames": "9"})))[0]["__metadata__"]["frames"] == "3"


def test_ten_thousand_over_sixteen_times_are_at_most_1_7_megabytes():
    size = len(pack_viewer_file(random_sequence(16, 10_000)))
    assert viewer_bytes(16, 10_000) <= size <= 1_700_000


def test_what_changes_over_time_is_kept_and_what_does_not_is_stored_once(tmp_path):
    still = random_sequence(4, 9, scales=torch.full((4, 9, 3), 0.02))
    assert parse(pack_viewer_file(still))[1]["logscale"].shape == (9, 3)
    moving = random_sequence(4, 9, opacities=torch.linspace(0, 1, 4)[:, None].expand(4, 9))
    assert parse(pack_viewer_file(moving))[1]["rgba"].shape == (4, 9, 4)
    assert torch.allclose(read_viewer_file(written(tmp_path, pack_viewer_file(moving))).opacities[:, 3], torch.linspace(0, 1, 4), atol=0.002)
    standing = random_sequence(4, 9, positions=torch.rand(1, 9, 3))
    assert read_viewer_file(written(tmp_path, pack_viewer_file(standing))).positions.shape == (1, 9, 3)


def test_a_flat_cloud_and_one_gaussian_have_a_box_without_extent(tmp_path):
    flat = random_sequence(1, 1, positions=torch.tensor([[[0.3, 0.3, 0.3]]]))
    assert torch.allclose(read_viewer_file(written(tmp_path, pack_viewer_file(flat))).positions, flat.positions)


@pytest.mark.parametrize(("changes", "words"), [
    ({"positions": torch.full((3, 50, 3), math.nan)}, "positions hold 450 values that are not finite"),
    ({"scales": torch.full((1, 50, 3), math.inf)}, "scales hold 150"),
    ({"positions": torch.zeros(3, 0, 3)}, "no Gaussians"),
])
def test_what_no_browser_could_draw_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        pack_viewer_file(random_sequence(**changes))


def test_gaussians_become_a_sequence_of_their_own_frame_and_colour():
    colours = torch.tensor([[[0.2, 0.4, 0.6]]])
    gaussians = Gaussians4D(torch.ones(2, 1, 3), torch.tensor([[[1.0, 0, 0, 0]]]), torch.full((1, 1, 3), 0.1), torch.tensor([[0.5]]), harmonics_of(colours), torch.tensor([0.0, 1.0]))
    sequence = viewer_sequence(gaussians, 24)
    assert torch.allclose(sequence.colours, colours) and torch.equal(sequence.positions, gaussians.positions) and sequence.fps == 24


# -- damaged files -------------------------------------------------------------------------------------------------------------


def changed(data: bytes, change) -> bytes:
    """The file with another header."""
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def set_metadata(**values):
    return lambda header: header["__metadata__"].update(values)


def set_entry(name, **values):
    return lambda header: header[name].update(values)


@pytest.mark.parametrize(("change", "words"), [
    (set_metadata(format="other"), "no viewer file of version 1"),
    (set_metadata(version="2"), "no viewer file of version 1"),
    (set_metadata(frames="1000000"), "does not suit 1000000 times"),
    (set_metadata(count="51"), "does not suit 3 times of 51"),
    (set_metadata(count="-1"), "whole number above 0"),
    (set_metadata(frames="9" * 400), "whole number above 0"),
    (set_metadata(times="[0, 1]"), "times is no list of 3"),
    (set_metadata(times="[0, 1, NaN]"), "times is no list of 3"),
    (set_metadata(times="[0, 1, 0.5]"), "out of range"),
    (set_metadata(fps="0"), "out of range"),
    (set_metadata(fps="[" * 5000), "no readable JSON"),
    (set_metadata(aabb="[[0,0,0],[-1,1,1]]"), "out of range"),
    (set_metadata(aabb='{"a": 1}'), "aabb is no list of 2 x 3"),
    (lambda header: header.pop("rgba"), "readable safetensors"),
    (set_entry("position", dtype="F16"), "F16"),
    (set_entry("rotation", shape=[3, 40, 5]), r"\[3, 40, 5\]"),
    (set_entry("position", shape=[3_000_000_000, 50, 3]), "readable safetensors"),
])
def test_damaged_headers_are_named_in_a_clause(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        read_viewer_file(written(tmp_path, changed(pack_viewer_file(random_sequence()), change)))


@pytest.mark.parametrize("length", [0, 7, 8, 200, -1, -400])
def test_truncated_files_are_named(tmp_path, length):
    with pytest.raises(ValueError, match="no readable safetensors file"):
        read_viewer_file(written(tmp_path, pack_viewer_file(random_sequence())[:length]))


def test_the_browsers_fixture_is_what_the_writer_gives():
    sys.path.insert(0, str(FIXTURE.parent))
    import write_viewer_fixture as fixture

    assert (fixture.FOLDER / "small_viewer.safetensors").read_bytes() == fixture.packed()


# -- what a browser is given ----------------------------------------------------------------------------------------------------


def cloud(count=100, frames=2, **changes) -> Gaussians4D:
    generator = torch.Generator().manual_seed(1)
    values = dict(
        positions=torch.rand(frames, count, 3, generator=generator) - 0.5, rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        scales=torch.full((1, count, 3), 0.01), opacities=torch.full((1, count), 0.5), harmonics=torch.zeros(1, count, 1, 3), times=torch.linspace(0, 1, frames),
    )  # fmt: skip
    return Gaussians4D(**{**values, **changes})


def test_a_sound_cloud_is_given_as_it_is():
    whole = cloud()
    shown, notes = drawable(whole, 10**6)
    assert shown is whole and notes == []


def test_broken_and_far_gaussians_are_left_out_and_counted():
    positions = cloud().positions.clone()
    positions[1, 7] = math.nan
    positions[0, 8:11] = 1e4
    shown, notes = drawable(cloud(positions=positions), 10**6)
    assert shown.count == 96 and torch.isfinite(shown.positions).all() and shown.positions.abs().max() < 1
    assert notes[0].startswith("1 of 100 Gaussians hold") and notes[1].startswith("3 of 100 Gaussians have flown")


def test_a_cloud_without_anything_to_draw_is_refused_in_one_line():
    for broken, words in ((cloud(0), "no Gaussians"), (cloud(scales=torch.full((1, 100, 3), math.inf)), "all 100 Gaussians hold numbers")):
        with pytest.raises(ValueError, match=words) as refusal:
            drawable(broken, 10**6)
        assert str(refusal.value).startswith("There is nothing to show:") and "\n" not in str(refusal.value)


def test_of_a_large_cloud_the_most_visible_are_given_within_the_size():
    scales = torch.linspace(0.001, 0.01, 100)[None, :, None].expand(1, 100, 3)
    shown, (note,) = drawable(cloud(scales=scales), 1000)
    assert shown.count == 1000 // (2 * 10 + 7) and torch.equal(shown.scales, scales[:, -shown.count :])
    assert note == "The 37 most visible of 100 Gaussians are shown: all at 2 times are 0 MB, and 0.001 MB are allowed."
    assert len(pack_viewer_file(viewer_sequence(shown))) < 1000 + 800, "the size, and a header"


def test_too_many_times_are_refused():
    with pytest.raises(ValueError, match="2,000 times do not fit into 0.001 MB. Retime"):
        drawable(cloud(1, 2000), 1000)
