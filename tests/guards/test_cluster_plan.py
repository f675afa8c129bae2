"""What a batch checks before it uses a Ray cluster, and what a machine tells Ray when it becomes a node."""

import builtins
import subprocess
import sys
from pathlib import Path

import node
import pytest
import version
from batch import cluster

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = "0.1.0-0123456789ab"


def entry(cpus: float, gpus: float = 0, label: str | None = OURS, alive: bool = True) -> dict:
    """A node as ray.nodes() lists it."""
    resources = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    return {"Alive": alive, "Resources": resources if cpus else {}, "Labels": {"ray.io/node-id": "1"} | ({"bloom4d": label} if label else {}),
            "NodeManagerAddress": "10.0.0.7"}


@pytest.mark.parametrize(("nodes", "cores", "count", "options"), [
    ([entry(8)], 0, 1, {"num_cpus": 8}),
    ([entry(8)], 3, 2, {"num_cpus": 3}),
    ([entry(8), entry(4)], 0, 3, {"num_cpus": 4}),
    ([entry(8), entry(4, alive=False)], 0, 1, {"num_cpus": 8}),
    ([entry(8), entry(0, label=None)], 0, 1, {"num_cpus": 8}),
    ([entry(8, gpus=2), entry(8, gpus=1), entry(64)], 1, 3, {"num_gpus": 1}),
], ids=["a host a machine", "by cores", "the smallest machine counts", "dead nodes do not count", "a head without CPUs needs no ComfyUI", "a host a GPU"])
def test_hosts_are_planned_by_what_the_nodes_have(nodes, cores, count, options):
    assert cluster.plan(nodes, OURS, cores) == cluster.Hosts(count, options)


@pytest.mark.parametrize(("nodes", "cores", "words"), [
    ([entry(8), entry(8, label=None)], 0, "10.0.0.7 was not started by `launch.py node`"),
    ([entry(8), entry(8, label="0.1.0-ba9876543210")], 0, f"runs Bloom4D 0.1.0-ba9876543210, and this machine {OURS}"),
    ([entry(8), entry(8)], 16, "lower --cores-per-host"),
    ([entry(0)], 0, "no node of the cluster has any cores"),
])
def test_a_cluster_that_cannot_run_rows_is_refused_in_one_line(nodes, cores, words):
    with pytest.raises(cluster.ClusterError) as refusal:
        cluster.plan(nodes, OURS, cores)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without_ray(name, *arguments, **keywords):
        if name == "ray":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    for name in (*node.variables(), "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "")  # restored afterwards
    with pytest.raises(cluster.ClusterError, match="extra `cluster`.*\n.*-m pip install ray"):
        cluster.import_ray("local")


@pytest.mark.parametrize(("address", "here"), [("127.0.0.1:6379", True), ("localhost:6379", True), ("10.0.0.7:6379", False), ("auto", False)])
def test_only_a_cluster_of_this_machine_is_kept_to_loopback(address, here):
    assert cluster.is_loopback(address) is here


def test_a_node_tells_ray_what_it_runs_and_tells_nobody_else_anything():
    command = node.command(["--head", "--port=7000"])
    assert command[:4] == [sys.executable, "-m", "ray.scripts.scripts", "start"] and command[-2:] == ["--head", "--port=7000"]
    assert f"--labels=bloom4d={version.label()}" in command and "--disable-usage-stats" in command and "--include-dashboard=false" in command
    told = node.variables()
    assert told["RAY_USAGE_STATS_ENABLED"] == "0" and told["RAY_AUTH_MODE"] == "token"


def test_a_node_without_an_address_explains_itself():
    answer = subprocess.run([sys.executable, str(ROOT / "tools" / "node.py")], capture_output=True, text=True)
    assert answer.returncode == 2 and "--address=HOST:PORT" in answer.stdout


def test_the_version_changes_with_any_line_and_any_weight(tmp_path):
    (tmp_path / "models" / "weights").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    names, files = set(), ("models/a.py", "tools/b.py", "models/weights/c.safetensors")
    for name in files:
        (tmp_path / name).write_bytes(b"1")
        names.add(version.source_hash(tmp_path))
    (tmp_path / "models" / "a.py").write_bytes(b"2")
    names.add(version.source_hash(tmp_path))
    (tmp_path / "models" / "notes.md").write_bytes(b"3")
    assert version.source_hash(tmp_path) in names and len(names) == 4


def test_results_that_changed_on_their_way_are_not_written(tmp_path):
    with pytest.raises(AssertionError, match="changed on its way"):
        cluster.write_files(tmp_path / "row", {"a.txt": b"other"}, {"a.txt": "0" * 64})
    assert not (tmp_path / "row").exists()
