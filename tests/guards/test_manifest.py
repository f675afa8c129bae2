"""The manifest: lines survive, a cut-off line does not count, results that changed do not count as finished."""

import json

import pytest
from batch.manifest import Manifest, ManifestError, sha256_of


def line(key="a", row=1, **changes) -> dict:
    return {"row": row, "key": key, "folder": f"row_{key}", "inputs": {}, "seed": None, "models": {}, "model_paths": {}, "outputs": [], "hashes": {},
            "scores": {}, "seconds": 1.0, "status": "success", "error": None, "where": "", "same_as": None, **changes}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "manifest.jsonl"


def test_the_newest_line_of_a_row_holds(path):
    with Manifest(path).writing() as manifest:
        manifest.append(line(status="error"))
        manifest.append(line("b", 2))
        manifest.append(line())
        manifest.append(line(row=3, same_as=1))
    found = Manifest(path)
    assert [(entry["key"], entry["row"], entry["status"]) for entry in found.lines] == [("b", 2, "success"), ("a", 1, "success"), ("a", 3, "success")]
    assert found.find("a") == line() and found.find("c") is None
    with Manifest(path).writing():
        pass
    assert [json.loads(text)["key"] for text in path.read_text().splitlines()] == ["b", "a"], "the next batch begins with whole, newest lines"


def test_a_line_that_a_crash_cut_off_does_not_count_and_harms_nothing(path):
    with Manifest(path).writing() as manifest:
        manifest.append(line())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert Manifest(path).lines == [line()]
    with Manifest(path).writing() as manifest:
        manifest.append(line("b"))
    assert [json.loads(text) for text in path.read_text().splitlines()] == [line(), line("b")]


@pytest.mark.parametrize("text", ["{}\n", "no json\n", '{"row": 1}\n', "[1]\n", "\xff\n", "[" * 100000 + "\n"])
def test_a_line_that_is_none_is_named(path, text):
    path.parent.mkdir()
    path.write_text(json.dumps(line()) + "\n" + text, encoding="latin-1")
    with pytest.raises(ManifestError, match="manifest.jsonl line 2 is no line of a manifest"):
        Manifest(path)


def test_only_one_batch_writes_to_a_folder(path):
    with Manifest(path).writing():
        with pytest.raises(ManifestError, match="another batch is writing to .*out: wait for it to end, or give another --out"):
            with Manifest(path).writing():
                pass
    with Manifest(path).writing():
        pass


def test_a_row_is_finished_while_its_files_and_models_are_what_they_were(path, tmp_path):
    picture, model = path.parent / "row_a" / "x.png", tmp_path / "model.safetensors"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    model.write_bytes(b"model")
    done = line(outputs=["x.png"], hashes={"x.png": sha256_of(picture)}, models={"m": sha256_of(model)}, model_paths={"m": str(model)})
    manifest = Manifest(path)
    manifest.append(done)
    manifest.append(line("b", status="error"))
    assert manifest.finished("a") == done and manifest.finished("b") is None and manifest.finished("c") is None
    for file in (picture, model):
        before = file.read_bytes()
        file.write_bytes(b"something else")
        assert manifest.finished("a") is None
        file.write_bytes(before)
        assert manifest.finished("a") == done
        file.rename(file.with_suffix(".moved"))
        assert manifest.finished("a") == (None if file is picture else done), "a model of another machine is not asked"
        file.with_suffix(".moved").rename(file)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ManifestError, match="cannot be written"):
        with Manifest(tmp_path / "file" / "manifest.jsonl").writing():
            pass
