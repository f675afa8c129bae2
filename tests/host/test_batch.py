"""Many rows on one host: folders, manifest, failures, going on, equal bytes. The rows save fields, which needs no prior."""

import json
import subprocess
import sys
from pathlib import Path

import demo_workflows as demo
import host as host_process
import proxy
import pytest
from batch import engine, executor, manifest, rows

ROOT = Path(__file__).resolve().parent.parent.parent


def graph(**changes) -> dict:
    """Hash Field -> Save Field."""
    prompt = demo.load("text_to_4d_demo")
    field, save = demo.titled(prompt, "Field"), demo.titled(prompt, "Save field")
    prompt = {"field": prompt[field], "save": prompt[save]}
    prompt["save"]["inputs"] |= {"field": ["field", 0], "filename_prefix": "bloom4d/fields/batch"}
    return demo.change(prompt, changes)


@pytest.fixture
def batch(server, tmp_path):
    """Run a prompts file over `graph` on the suite's host: (manifest lines, what was announced)."""
    def run(content: str, name="rows.csv", seeds=()):
        (tmp_path / name).write_text(content)
        said = []
        lines = engine.run_rows(rows.read_rows(tmp_path / name, graph(), seeds), tmp_path / "out", server.url, announce=said.append, lines=False)
        return lines, said

    return run


def status(lines):
    return [line["status"] for line in lines]


def test_a_failed_row_stops_no_other(batch, tmp_path):
    """Row 2 fails while it runs, row 3 is refused by the host."""
    lines, said = batch('Field.seed,Field.initial_density,Save field.filename_prefix\n1,,\n2,,../out\n3,huge,\n4,,\n')
    assert status(lines) == ["success", "error", "error", "success"]
    assert lines[1]["error"] == 'Save field: "../out" leads out of the output folder. Use a name without ".." and without a leading slash.'
    assert lines[2]["error"].startswith("the workflow was refused: Field: Value not in list (initial_density: 'huge' not in")
    assert [line["outputs"] for line in lines[1:3]] == [[], []] and not (tmp_path / "out" / lines[1]["folder"]).exists()
    written = [json.loads(text) for text in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert written == lines
    first = lines[0]
    assert first["inputs"] == {"Field.seed": 1, "Field.initial_density": "soft ball", "Save field.filename_prefix": "bloom4d/fields/batch"}
    assert first["row"] == 1 and first["seed"] == 1 and first["seconds"] > 0 and first["scores"] == {}
    assert any("--- 2/4  row 2: Field.seed=2" in text for text in said)


def test_a_row_saves_the_bytes_of_its_single_run(batch, server, tmp_path):
    lines, _ = batch("seed\n11\n12\n")
    saved = [(tmp_path / "out" / line["folder"] / line["outputs"][0]).read_bytes() for line in lines]
    server.post("/free", {"unload_models": True, "free_memory": True})  # forgets what the rows left in the cache
    single = graph(Field={"seed": 11})
    run = server.run(single)
    assert set(run.executed) == {"field", "save"}
    assert saved[0] == demo.saved_field(run, single, server.base).read_bytes() != saved[1]


def test_started_again_it_runs_only_what_is_missing(batch, tmp_path):
    first, _ = batch("seed\n21\n22\n23\n")
    folder = tmp_path / "out"
    (folder / first[1]["folder"] / first[1]["outputs"][0]).write_bytes(b"altered")
    lines, said = batch("seed\n23\n22\n24\n")
    assert said[0] == "1 of 3 rows are finished already and are left as they are." and sum("---" in text for text in said) == 2
    assert [line["ended"] for line in lines][0] == first[2]["ended"] and lines[0]["row"] == 1
    (saved_before,), (saved,) = first[1]["hashes"].values(), lines[1]["hashes"].values()
    assert saved == saved_before == manifest.sha256_of(folder / lines[1]["folder"] / lines[1]["outputs"][0])
    _, said = batch("seed\n21\n22\n23\n24\n")
    assert said == ["4 of 4 rows are finished already and are left as they are."], "nothing to do: no host is asked"


def test_equal_rows_run_once_and_are_both_listed(batch):
    lines, said = batch("seed\n31\n32\n31\n")
    assert [(line["row"], line["same_as"]) for line in lines] == [(1, None), (2, None), (3, 1)]
    assert lines[0]["folder"] == lines[2]["folder"] and sum("---" in text for text in said) == 2


def test_every_row_runs_with_every_seed(batch, tmp_path):
    lines, _ = batch("Field.blob_radius\n0.4 | 0.5\n", seeds=[1, 2])
    assert [(line["inputs"]["Field.blob_radius"], line["seed"]) for line in lines] == [(0.4, 1), (0.4, 2), (0.5, 1), (0.5, 2)]
    assert len({tuple(line["hashes"].values()) for line in lines}) == 4 and status(lines) == ["success"] * 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == sorted(line["folder"] for line in lines)


def test_the_models_that_a_prompt_names_are_recorded(demo_server, tmp_path):
    prompt = demo.only(demo.smoke("embedded_prior_sampling_demo"), *demo.of_class(demo.load("embedded_prior_sampling_demo"), "SaveImage")[:1])
    line, = engine.run_rows([rows.make_row(1, prompt, {})], tmp_path / "out", demo_server.url, announce=lambda text: None, lines=False)
    file = demo_server.base / "models" / "bloom4d" / demo.PRIOR
    assert line["status"] == "success" and line["models"] == {demo.PRIOR: manifest.sha256_of(file)}
    prompt[demo.titled(prompt, "Prior")]["inputs"]["prior"] = "embedded_prior.safetensors"
    line, = engine.run_rows([rows.make_row(1, prompt, {})], tmp_path / "out", demo_server.url, announce=lambda text: None, lines=False)
    assert line["models"] == {"embedded_prior.safetensors": manifest.sha256_of(ROOT / "models" / "weights" / "embedded_prior.safetensors")}


@pytest.mark.parametrize(("address", "words"), [
    ("ftp://x", "ftp://x is no address of a ComfyUI: write http://NAME:PORT"),
    ("http://127.0.0.1:1?a=b", "is no address of a ComfyUI"),
    ("http://127.0.0.1:99999", "is no address of a ComfyUI"),
    ("127.0.0.1:1", "no ComfyUI answers at http://127.0.0.1:1 ("),
])
def test_a_server_that_is_none(address, words, tmp_path):
    with pytest.raises(host_process.HostFailed) as failure:
        engine.run_rows([rows.make_row(1, graph(), {})], tmp_path, address, announce=lambda text: None)
    assert words in str(failure.value)


def test_a_server_that_speaks_no_https_or_lacks_the_nodes(server, tmp_path):
    row = rows.make_row(1, {**graph(), "other": {"class_type": "Bloom4DNoSuchNode", "inputs": {}}}, {})
    with pytest.raises(host_process.HostFailed, match="does not speak https; try http://"):
        engine.run_rows([row], tmp_path, server.url.replace("http", "https"), announce=lambda text: None)
    with pytest.raises(host_process.HostFailed, match="does not know Bloom4DNoSuchNode: install Bloom4D into its custom_nodes and restart it"):
        engine.run_rows([row], tmp_path, server.url, announce=lambda text: None)


def command(server, tmp_path, *arguments) -> subprocess.CompletedProcess:
    """tools/run.py over `graph` on the suite's host."""
    (tmp_path / "graph.json").write_text(json.dumps(graph()))
    line = [sys.executable, str(ROOT / "tools" / "run.py"), str(tmp_path / "graph.json"), "--host", server.url, "--out", str(tmp_path / "out"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def test_the_command_says_how_it_went(server, tmp_path):
    (tmp_path / "rows.csv").write_text("Field.seed,Field.initial_density\n51,\n52,huge\n")
    done = command(server, tmp_path, "--prompts", str(tmp_path / "rows.csv"))
    assert done.returncode == 1 and "1 of 2 rows ended well; manifest: " in done.stdout
    assert "row  status   time  folder or error" in done.stdout and "2    error    0:00  the workflow was refused: Field" in done.stdout
    (tmp_path / "rows.csv").write_text("Field.seed,Field.sze\n51,\n")
    refused = command(server, tmp_path, "--prompts", str(tmp_path / "rows.csv"))
    assert refused.returncode == 2 and refused.stderr.startswith('rows.csv line 1, column "Field.sze": "Field" has no input sze')
    single = command(server, tmp_path, "--seed", "53")
    assert single.returncode == 0 and "ComfyUI answers at http://127.0.0.1" in single.stdout and len(list((tmp_path / "out").rglob("batch_*.safetensors"))) == 2
    assert server.host.process.poll() is None, "a server that runs already is never ended"


def test_two_batches_never_write_to_one_folder(server, tmp_path):
    (tmp_path / "rows.csv").write_text("Field.seed\n54\n")
    with manifest.Manifest(tmp_path / "out" / "manifest.jsonl").writing():
        done = command(server, tmp_path, "--prompts", str(tmp_path / "rows.csv"))
    assert done.returncode == 1 and done.stderr.startswith(f"another batch is writing to {tmp_path / 'out'}: wait for it to end")


def test_results_that_cannot_be_written_fail_their_row_only(server, tmp_path):
    found = [rows.make_row(number, graph(Field={"seed": seed}), {"seed": seed}) for number, seed in ((1, 55), (2, 56))]
    (tmp_path / f"{found[0].name}.partial").write_text("a file in the way")
    lines = engine.run_rows(found, tmp_path, server.url, announce=lambda text: None, lines=False)
    assert status(lines) == ["error", "success"] and lines[0]["error"].startswith(f"the results cannot be written to {tmp_path / found[0].name}: ")


def test_a_file_that_the_host_lost_fails_the_row(server, tmp_path):
    """The file goes away between the end of the run and the copy, as when somebody empties the output folder."""
    def remove(event):
        if event.kind == "execution_success":
            for path in (server.base / "output" / "bloom4d" / "fields").glob("batch_*"):
                path.unlink()

    row = rows.make_row(1, graph(Field={"seed": 59}), {})
    line = executor.execute_row(server.url, row, tmp_path, on_event=remove)
    assert line["status"] == "error" and line["error"].startswith("the host answered 404 for /view") and "restart it" in line["error"]
    assert list(tmp_path.iterdir()) == [] and line["outputs"] == []


def test_a_server_behind_a_path_and_a_password(server, tmp_path):
    with proxy.forwarding(server.url, "/gpu/comfy", "me", "secret") as port:
        address = f"http://me:secret@127.0.0.1:{port}/gpu/comfy/"
        line, = engine.run_rows([rows.make_row(1, graph(Field={"seed": 57}), {})], tmp_path, address, announce=lambda text: None, lines=False)
        assert line["status"] == "success" and len(line["outputs"]) == 1 and line["where"] == f"http://127.0.0.1:{port}/gpu/comfy"
        with pytest.raises(host_process.HostFailed, match="the answer has status 401, so something else is there"):
            engine.run_rows([rows.make_row(1, graph(Field={"seed": 58}), {})], tmp_path, address.replace("secret", "guess"), announce=lambda text: None)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--seeds", "0,x"], '"0,x" are no seeds'),
    (["--seeds", "0"], "--seeds needs --prompts FILE"),
    (["--keep"], "--keep does not go together with --host"),
])
def test_options_that_do_not_fit(server, tmp_path, arguments, words):
    done = command(server, tmp_path, *arguments)
    assert done.returncode == 2 and words in done.stderr
