"""What a row's line is made of: model files, scores, copies; and the summary of a batch."""

import asyncio

import pytest
import results
from batch import engine, executor, model_files, places, rows, summary
from batch.manifest import sha256_of


@pytest.fixture
def folders(tmp_path):
    """Model folders as the host names them, with a file that two of them have and the weights of a pack."""
    for name in ("checkpoints/a.safetensors", "vae/a.safetensors", "loras/style/b.pt", "packs/pack/models/weights/own.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "linked").symlink_to(tmp_path / "loras")
    return {"checkpoints": [str(tmp_path / "checkpoints")], "vae": [str(tmp_path / "none"), str(tmp_path / "vae")],
            "loras": [str(tmp_path / "loras"), str(tmp_path / "linked")], "custom_nodes": [str(tmp_path / "packs"), str(tmp_path / "none")]}


class Host:
    """A host that only says where its models are."""

    def __init__(self, folders):
        self.folders = folders

    async def get_json(self, path):
        assert path == "/internal/folder_paths"
        return self.folders


def hashes(folders, *names, local=True):
    prompt = {str(number): {"class_type": "Loader", "inputs": {"name": name, "strength": 1.0, "model": ["1", 0]}} for number, name in enumerate(names)}
    return asyncio.run(model_files.model_hashes(Host(folders), prompt, local))


def test_models_are_found_in_the_hosts_folders(folders, tmp_path):
    found, paths = hashes(folders, "style/b.pt", "own.safetensors", "gone.ckpt", "a prompt about b.pt and more", "b", "x" * 400 + ".pt", "two\nlines.pt")
    assert found == {"style/b.pt": sha256_of(tmp_path / "loras" / "style" / "b.pt"), "gone.ckpt": "unknown: in no model folder of the host",
                     "own.safetensors": sha256_of(tmp_path / "packs" / "pack" / "models" / "weights" / "own.safetensors")}
    assert set(paths) == {"style/b.pt", "own.safetensors"}


def test_a_name_that_two_folders_have_is_listed_for_each(folders, tmp_path):
    found, _ = hashes(folders, "a.safetensors")
    assert found == {f"{kind}/a.safetensors": sha256_of(tmp_path / kind / "a.safetensors") for kind in ("checkpoints", "vae")}


def test_nothing_is_invented_about_a_remote_host(folders):
    assert hashes(folders, "a.safetensors", local=False) == ({"a.safetensors": "unknown: remote host"}, {})


@pytest.mark.parametrize(("url", "expected"), [("http://127.0.0.1:8188", True), ("http://localhost", True), ("http://[::1]:8188", True), ("http://127.9.0.1", True),
                                               ("http://192.168.0.2:8188", False), ("https://gpu.example/comfy", False), ("http://localhost.example", False)])
def test_only_this_machine_is_local(url, expected):
    assert places.is_loopback(url) is expected


def test_scores_are_kept_by_label_and_only_numbers_count():
    prompt = {"1": {"class_type": "Measure", "inputs": {}}, "2": {"class_type": "Measure", "inputs": {}, "_meta": {"title": "Second"}}}
    outputs = {"1": {"scores": [{"label": "a", "values": {"x": 1, "y": float("inf"), "z": "much"}}, {"label": "b", "values": {"x": 2.5}}]},
               "2": {"scores": [{"label": "a", "values": {"x": 3}}, "nonsense", {"label": "c"}]}, "3": {"text": ["no scores"]}}
    assert executor.scores_of(outputs, prompt) == {"a": {"x": 1.0, "y": None, "z": None}, "b": {"x": 2.5}, "a (Second 2)": {"x": 3.0}}


@pytest.mark.parametrize("file", [{"filename": "../x"}, {"filename": "x", "subfolder": "../.."}, {"filename": "/etc/x"}])
def test_a_host_cannot_write_outside_the_rows_folder(tmp_path, file):
    with pytest.raises(ValueError, match="outside its folder"):
        results.inside(tmp_path / "row", file)
    assert results.inside(tmp_path, {"filename": "x", "subfolder": "a/b"}) == tmp_path / "a" / "b" / "x"


class LostPlace:
    """A host that is lost in every row."""

    address, where, local = "127.0.0.1:1", "nowhere", True

    def __init__(self):
        self.recovered = 0

    def recover(self):
        self.recovered += 1

    def last_words(self):
        return "Killed"


class Pressed:
    """Ctrl-C came."""

    pressed = True

    async def wait(self):
        return


def test_a_row_in_which_the_host_is_lost_twice_fails_and_leaves_a_host_for_the_next(tmp_path):
    place, said = LostPlace(), []
    line = engine.run_row(rows.make_row(4, {}, {"seed": 1}), place, tmp_path, said.append, None, False)
    assert (line["row"], line["status"], line["error"]) == (4, "error", "the host was lost twice in this row: Killed")
    assert place.recovered == 2 and said == ["    the host was lost in this row: Killed"] * 2
    interrupted = engine.run_row(rows.make_row(4, {}, {"seed": 1}), place, tmp_path, said.append, Pressed(), False)
    assert interrupted["status"] == "interrupted" and place.recovered == 2, "nothing is started again after Ctrl-C"


def test_a_long_batch_shows_only_what_did_not_end_well():
    row = rows.make_row(1, {}, {})
    lines = [{**executor.started_line(row, ""), "row": number, "status": "success"} for number in range(1, 101)]
    assert len(summary.table(lines[: summary.SHOWN]).splitlines()) == summary.SHOWN + 1
    lines[6] |= {"status": "error", "error": "Save: no room"}
    assert summary.table(lines).splitlines() == ["row  status  time  folder or error", "7    error   0:00  Save: no room",
                                                 "(99 rows that ended well are not shown)"]
