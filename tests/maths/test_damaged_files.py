"""Files that the fuzzer broke a reader with, one by one: what is wrong is named, and nothing is believed about sizes."""

import json
import struct

import pytest
import torch
from fuzzing import batch_readers, engine, file_readers
from fuzzing.tensor_files import Damage, TensorFile, joined, rebuilt
from fuzzing.values import DEEP, Change, changed

DEEPLY = "[" * DEEP


def with_text(file: TensorFile, key: str, text: str) -> Damage:
    return Damage("text", joined({**file.header, "__metadata__": {**file.header["__metadata__"], key: text}}, file.data))


def with_value(file: TensorFile, key: str, path: str, value) -> Damage:
    """The file with one value of its description set; `...` deletes it."""
    document = json.loads(file.header["__metadata__"][key])
    change = Change(tuple(int(part) if part.isdecimal() else part for part in path.split(".")), *(("delete",) if value is ... else ("set", value)))
    return with_text(file, key, json.dumps(changed(document, [change])))


def refusal(reader, damage) -> str:
    """The first line that a reader refuses a case with; the rules of the fuzzer hold for it."""
    with pytest.raises(reader.refusals) as caught:
        reader.read(damage)
    assert engine.end_of(reader, damage).startswith("refused")
    return str(caught.value).splitlines()[0]


@pytest.fixture
def field(tmp_path):
    return file_readers.field_files(tmp_path), TensorFile.read(tmp_path / "field.safetensors", "bloom4d")


@pytest.fixture
def learned_field(tmp_path):
    """A field whose one term learned one tensor."""
    from dataclasses import replace

    from bloom4d.models.optimize.scene_files import load_scene, save_scene

    reader, whole = file_readers.field_files(tmp_path), tmp_path / "field.safetensors"
    save_scene(replace(load_scene(whole), learned={"VSD": {"net.up": torch.ones(3, 2)}}), whole)
    return reader, TensorFile.read(whole, "bloom4d")


@pytest.mark.parametrize(("path", "value", "told"), [
    ("field", ..., "names no kind of field"),
    ("field.kind", ["hash"], "names no kind of field"),
    ("field.config", ..., "the description is None"),
    ("field.config.static", ..., "static.table is 72 x 2 and should be 6299960 x 2"),
    ("field.config.static.levels", [2], "static.levels is [2], a whole number is needed"),
    ("field.config.static.levels", 2**60, "1 to 32 levels"),
    ("field.config.static.growth", 1e300, "at most 65536 nodes per axis"),
    ("field.config.dynamic.time_ratio", 1e300, "time ratio"),
    ("field.config.dynamic.log2_table", 24, "dynamic.table is"),  # a gigabyte that the file does not have
    ("field.config.hidden", 10**9, "hidden layers"),
    ("field.config.layers", 10**9, "hidden layers"),
    ("field.config.blob.radius", float("nan"), "blob.radius is nan, a finite number is needed"),
    ("field.config.blob.shape", ["cone"], "blob.shape"),
    ("field.config.background.colour", [1, 1], "background.colour has 2 entries, 3 are needed"),
    ("field.config.background", [], "background is [], a group of named values"),
    ("field.config.ünknown", 1, "ünknown"),
    ("stages", ..., "list of stages is missing"),
    ("stages.0.rates.static", "x" * 5000, "rates.static"),
    ("stages.0.roles", ["static", "wheels"], "wheels"),
    ("version", ["x" * 5000], "has field version"),
])
def test_a_field_whose_description_is_wrong(field, path, value, told):
    reader, file = field
    if path.endswith("ünknown"):
        document = json.loads(file.header["__metadata__"]["bloom4d"])
        document["field"]["config"]["ünknown"] = value
        assert told in refusal(reader, with_text(file, "bloom4d", json.dumps(document)))
    else:
        assert told in refusal(reader, with_value(file, "bloom4d", path, value))


@pytest.mark.parametrize(("path", "value", "told"), [
    ("learned", 7, "learning terms is 7"),
    ("learned", ["VSD", "VSD"], "different names are needed"),
    ("learned", [["VSD"]], "different names are needed"),
    ("learned", ["VSD", "x" * 5000], "learned is missing"),
    ("learned", [], "that its description does not name"),
])
def test_what_a_fields_terms_learned(learned_field, path, value, told):
    reader, file = learned_field
    assert told in refusal(reader, with_value(file, "bloom4d", path, value))


def test_learned_tensors_that_are_none(learned_field):
    reader, file = learned_field
    assert "no numbers with a fraction" in refusal(reader, Damage("tensors", rebuilt(file, replace=("learned.0.net.up", "I32", [3, 2]))))
    assert "learned is missing" in refusal(reader, Damage("tensors", rebuilt(file, rename=("learned.0.net.up", "learned.1.net.up"))))


def test_a_field_of_before_terms_learned_is_read(learned_field, tmp_path):
    reader, file = learned_field
    assert reader.read(with_value(file, "bloom4d", "learned", ["VSD"])) == "read"
    plain = file_readers.field_files(tmp_path)
    old = TensorFile.read(tmp_path / "field.safetensors", "bloom4d")
    assert plain.read(with_value(old, "bloom4d", "learned", ...)) == "read"


@pytest.mark.parametrize("text", ["0", "[]", "null", DEEPLY, '{"format":'])
def test_a_field_whose_description_is_no_object(field, text):
    reader, file = field
    assert "no Bloom4D field" in refusal(reader, with_text(file, "bloom4d", text))


@pytest.mark.parametrize(("change", "told"), [
    ({"drop": "field._extra_state"}, "_extra_state is missing"),
    ({"drop": "history.0.skipped"}, "columns that are missing"),
    ({"replace": ("history.0.loss", "F32", [3])}, "not of one length"),
    ({"fill": ("history.0.term", 0x7F)}, "steps or terms that do not exist"),
    ({"fill": ("field._extra_state", 0xFF)}, "finite"),
    ({"replace": ("field.static.table", "F32", [2, 2])}, "static.table is 2 x 2 and should be"),
    ({"replace": ("field.static.table", "BOOL", [64, 2])}, "static.table"),
    ({"rename": ("field.static.table", "field.x")}, "static.table is missing"),
])
def test_a_field_whose_tensors_are_wrong(field, change, told):
    reader, file = field
    assert told in refusal(reader, Damage("tensors", rebuilt(file, **change)))


def test_sizes_that_a_header_only_claims(field):
    reader, file = field
    for claimed in ({"shape": [2**60]}, {"data_offsets": [0, 2**60]}):
        header = {**file.header, "field.static.table": {**file.header["field.static.table"], **claimed}}
        assert "no readable safetensors file" in refusal(reader, Damage("claim", joined(header, file.data)))
    assert "no readable" in refusal(reader, Damage("length", struct.pack("<Q", 2**60) + b"{}"))


@pytest.fixture
def checkpoint(tmp_path):
    reader = file_readers.checkpoints(tmp_path)
    path = tmp_path / "run" / "step_00000002.safetensors"
    return reader, TensorFile.read(path), json.loads(path.with_suffix(".json").read_text()), path.name


@pytest.mark.parametrize(("path", "value", "told"), [
    ("step", "abc", "describes something else"),
    ("step", [1], "describes something else"),
    ("step", 10**30, "describes something else"),
    ("step", 7, '.safetensors" is at step 7'),
    ("field", [], "field of kind None"),
    ("field.config.hidden", "x" * 5000, "its hidden is"),
    ("history", ..., "the history is None"),
    ("history.terms", "refinement", "the history.terms"),
    ("in_a_row", ..., "in_a_row is None"),
    ("empty", 1.5, "empty is 1.5"),
])
def test_a_checkpoint_whose_values_are_wrong_under_the_right_hash(checkpoint, path, value, told):
    reader, _, document, name = checkpoint
    steps = [Change(tuple(path.split(".")), "delete" if value is ... else "set", None if value is ... else value)]
    assert told in refusal(reader, file_readers.Pair(None, json.dumps(changed(document, steps)), True, name))


@pytest.mark.parametrize(("change", "told"), [
    ({"drop": "occupancy.occupied"}, "occupied is missing"),
    ({"replace": ("occupancy.opacity", "F32", [1, 2, 2, 2])}, "opacity is 1 x 2 x 2 x 2"),
    ({"drop": "adam.exp_avg.static.table"}, "exp_avg.static.table is missing"),
    ({"replace": ("adam.exp_avg.static.table", "F32", [1])}, "exp_avg.static.table is 1"),
    ({"drop": "pool.times"}, "pool: the tensor"),
    ({"replace": ("pool.pictures", "F32", [1, 4, 4, 3])}, "pictures is 1 x 4 x 4 x 3"),
    ({"rename": ("history.loss", "loss")}, "columns that are missing"),
])
def test_a_checkpoint_whose_tensors_are_wrong_under_the_right_hash(checkpoint, change, told):
    reader, file, document, name = checkpoint
    assert told in refusal(reader, file_readers.Pair(Damage("tensors", rebuilt(file, **change)), json.dumps(document), True, name))


@pytest.mark.parametrize("latest", ["\ud800", "\x00", "..", "x" * 5000])
def test_a_spoiled_latest_is_passed_over(checkpoint, latest):
    reader, _, document, _ = checkpoint
    assert reader.read(file_readers.Pair(None, json.dumps(document), True, latest)) == "read, went on"


@pytest.mark.parametrize(("path", "value", "told"), [
    ("denoiser", ..., "has no denoiser"),
    ("denoiser.blocks", [10**9], "16 blocks each"),
    ("denoiser.width", 100, "multiple of 64"),
    ("denoiser.width", 1 << 14, "unet."),
    ("denoiser.condition_size", 3, "camera and time alone"),
    ("text.heads", 0, "heads"),
    ("text.layers", 10**9, "layers"),
    ("codec.patch", 10**6, "codec of patches"),
    ("codec.channels", 5, "channels"),
])
def test_a_prior_whose_description_is_wrong(tmp_path, path, value, told):
    reader = file_readers.prior_files(tmp_path)
    file = TensorFile.read(tmp_path / "prior.safetensors", "config")
    assert told in refusal(reader, with_value(file, "config", path, value))


def test_a_prior_without_a_description(tmp_path):
    reader = file_readers.prior_files(tmp_path)
    file = TensorFile.read(tmp_path / "prior.safetensors", "config")
    assert "no readable JSON" in refusal(reader, with_text(file, "config", DEEPLY))
    assert "has format x" in refusal(reader, with_text(file, "format", "x"))
    assert "codec.variance is missing" in refusal(reader, Damage("tensors", rebuilt(file, drop="codec.variance")))


def test_a_recogniser_and_a_training_state_that_are_wrong(tmp_path):
    reader, file = file_readers.recogniser_files(tmp_path), TensorFile.read(tmp_path / "recogniser.safetensors", "config")
    assert "widths are multiples of 8" in refusal(reader, with_value(file, "config", "widths", [0]))
    assert "no readable safetensors file" in refusal(reader, Damage("cut", b"x"))
    assert "has no species" in refusal(reader, with_value(file, "config", "species", ...))
    reader, file = file_readers.training_files(tmp_path), TensorFile.read(tmp_path / "training.safetensors")
    assert "step is no number" in refusal(reader, with_text(file, "step", "many"))
    assert "adam.0.step is missing" in refusal(reader, Damage("tensors", rebuilt(file, rename=("adam.0.step", "adam.x"))))
    assert "networks.weight" in refusal(reader, Damage("tensors", rebuilt(file, replace=("networks.weight", "F32", [9, 9]))))


def test_a_workflow_that_is_nested_without_end_and_names_that_are_too_long(tmp_path):
    reader = file_readers.workflows(tmp_path)
    assert "nested too deeply" in refusal(reader, file_readers.Command(DEEPLY, (), None, None))
    long = file_readers.Command(json.dumps(file_readers.SAMPLE), ("Sampler v1.5.seed=" + "x" * 5000,), None, None)
    assert "no value of that kind" in refusal(reader, long)
    assert "there is no workflow xxx" in refusal(file_readers.workflow_names(tmp_path), "x" * 300)


def test_a_prompts_file_whose_column_is_long(tmp_path):
    sheet = batch_readers.Sheet(".csv", ("x" * 290 + "\n1\n").encode(), ())
    assert refusal(batch_readers.prompts_files(tmp_path), sheet).startswith("rows.csv line 1")


def test_meta_tensors_never_reach_a_field(tmp_path):
    """What is compared without memory is built again with it."""
    from bloom4d.models.optimize.scene_files import load_scene, save_scene

    save_scene(file_readers.tiny_scene(), tmp_path / "field.safetensors")
    field = load_scene(tmp_path / "field.safetensors").field
    assert all(value.device.type == "cpu" for value in field.state_dict().values()) and torch.equal(field.static.table, file_readers.tiny_field().static.table)


def test_numbers_that_are_not_finite_are_no_configuration():
    """The host lets NaN through every limit; a refinement at level NaN died inside the model's noise table."""
    from bloom4d.models.geometry.cameras import CameraPath, CameraSampler
    from bloom4d.models.guidance.schedules import Schedule
    from bloom4d.models.optimize.stages import LearningRates

    nan = float("nan")
    for build in (lambda: Schedule(nan, 0.5), lambda: CameraPath(distance=nan), lambda: CameraSampler(fov_degrees=(nan, 42.0)), lambda: LearningRates(static=nan)):
        with pytest.raises(ValueError, match="not finite.*Give ordinary numbers") as caught:
            build()
        assert engine.problem_of(str(caught.value)) == ""
