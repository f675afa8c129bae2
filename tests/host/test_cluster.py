"""A batch on a Ray cluster of two nodes, one of which is lost in the middle: every row ends, with the bytes of its single run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import demo_workflows as demo
import pytest
import real_host

pytest.importorskip("ray", reason="the package ray (extra `cluster`) is not installed")

import two_nodes  # noqa: E402
from batch.executor import execute_row  # noqa: E402
from batch.rows import read_rows  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
PROMPTS = ("a red rose blooming", "a purple pillar candle burning", "a yellow banana rotting")
SEEDS = "0,1"
BAD = "steps above what the node takes"


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A small graph whose first stage takes a moment, so that a node can be lost in it."""
    file = tmp_path_factory.mktemp("graph") / "stage1.json"
    file.write_text(json.dumps(two_nodes.one_stage(**{demo.STAGES[0]: {"steps": 6}, "Multi-view, one instant": {"width": 48, "height": 48}})))
    return file


@pytest.fixture(scope="module")
def prompts(graph):
    """A prompts file whose last row cannot run."""
    file = graph.with_name("rows.csv")
    file.write_text("prompt,Optimize stage 1.steps\n" + "".join(f"{prompt},6\n" for prompt in PROMPTS) + f"{BAD},-1\n")
    return file


@pytest.fixture(scope="module")
def cluster(host_tree, demo_server, tmp_path_factory):
    """Two nodes that know nothing of each other's folders."""
    bases = [real_host.prepare_base(tmp_path_factory.mktemp("node") / "base", ROOT) for _ in range(2)]
    for base in bases:
        demo.give_prior(base, like=demo_server.base)
    with two_nodes.TwoNodes(host_tree, bases) as nodes:
        yield nodes


def start(cluster, graph, prompts, out):
    command = [sys.executable, str(ROOT / "tools" / "run.py"), str(graph), "--prompts", str(prompts), "--seeds", SEEDS, "--out", str(out), "--ray", cluster.address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **cluster.variables})


def lines_of(out: Path) -> list[dict]:
    file = out / "manifest.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines() if line] if file.is_file() else []


def contents(folder: Path, line: dict) -> list[bytes]:
    """The row's files in the order in which its nodes saved them; their numbers count what that host saved before."""
    return [(folder / line["folder"] / name).read_bytes() for name in line["outputs"]]


@pytest.fixture(scope="module")
def disturbed(cluster, graph, prompts, tmp_path_factory):
    """(folder, what the command said, hosts left of the lost node) of a batch whose second node was lost after two rows, amid another."""
    out = tmp_path_factory.mktemp("out")
    process = start(cluster, graph, prompts, out)
    while process.poll() is None and sum(line["status"] == "success" for line in lines_of(out)) < 2:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()[0]
    assert len(cluster.hosts_of(1)) == 1
    cluster.lose_second()
    while process.poll() is None and cluster.hosts_of(1):
        time.sleep(0.1)
    orphans = cluster.hosts_of(1)
    said = process.communicate()[0]
    assert process.returncode == 1, said  # two rows cannot run
    return out, said, orphans


def test_every_row_ends_although_a_node_was_lost(disturbed):
    out, said, _ = disturbed
    lines = {line["row"]: line for line in lines_of(out)}
    assert sorted(lines) == list(range(1, 9))
    assert [lines[row]["status"] for row in sorted(lines)] == ["success"] * 6 + ["error"] * 2
    assert "was lost in row" in said and "6 of 8 rows ended well" in said
    assert len({line["where"] for line in lines.values() if line["status"] == "success"}) == 2, "both nodes did some"


def test_a_row_that_cannot_run_says_why_and_stops_no_other(disturbed):
    out, *_ = disturbed
    errors = [line["error"] for line in lines_of(out) if line["status"] == "error"]
    assert len(errors) == 2 and all("Optimize stage 1" in error and "smaller than min" in error and "\n" not in error for error in errors)


def test_results_are_those_of_single_runs_byte_for_byte(disturbed, demo_server, graph, prompts, tmp_path):
    out, *_ = disturbed
    rows = read_rows(prompts, json.loads(graph.read_text()), [0, 1])
    lines = {line["row"]: line for line in lines_of(out)}
    seen = []
    for row in rows[:6]:
        single = execute_row(demo_server.host.address, row, tmp_path)
        assert single["status"] == "success", single["error"]
        seen.append(contents(out, lines[row.number]))
        assert seen[-1] == contents(tmp_path, single), row.inputs
    assert len({tuple(files) for files in seen}) == 6, "the control: rows differ from one another"


def test_no_host_outlives_its_node_or_the_batch(disturbed, cluster):
    *_, orphans = disturbed
    assert orphans == []
    for _ in range(100):
        if not cluster.hosts_of(0):
            break
        time.sleep(0.1)
    assert cluster.hosts_of(0) == []


def test_finished_rows_are_not_run_again(disturbed, cluster, graph, prompts, tmp_path):
    out, *_ = disturbed
    before = lines_of(out)
    good = tmp_path / "good.csv"
    good.write_text("".join(line for line in prompts.read_text().splitlines(True) if BAD not in line))
    process = start(cluster, graph, good, out)
    said = process.communicate()[0]
    assert process.returncode == 0 and "6 of 6 rows are finished already" in said, said
    ended = {line["key"]: line["ended"] for line in lines_of(out)}
    assert all(ended[line["key"]] == line["ended"] for line in before if line["status"] == "success")
