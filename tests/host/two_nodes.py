"""A Ray cluster of two nodes on this machine, each with its own ComfyUI folders, and one of them can be lost.

As a script it is that cluster, alive until its standard input ends: `python two_nodes.py FOLDER_OF_NODE_1 FOLDER_OF_NODE_2`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import demo_workflows as demo
import psutil

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
MEMORY = 80 << 20  # bytes of shared memory per node


def variables(tree: Path) -> dict:
    """What the cluster and the command on it must agree about; the thread count is this process's, so that sums are the same."""
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    return {"COMFYUI_PATH": str(tree), "BLOOM4D_CPU": "1", "BLOOM4D_OFFLINE": "1", "OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_TOKEN": "0123456789abcdef" * 2, "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def one_stage(**changes) -> dict:
    """Stage 1 of text to 4D at smoke size, with a field and a video at its end; `changes`: {title: {input: value}}."""
    prompt = demo.smoke("text_to_4d_demo", **changes)
    for title in ("Save field", "Render"):
        prompt[demo.titled(prompt, title)]["inputs"]["field"] = [demo.titled(prompt, demo.STAGES[0]), 0]
    return demo.only(prompt, "Save field", "Save video")


class TwoNodes:
    """The cluster, as a context manager. bases: base directories of the nodes' hosts."""

    def __init__(self, tree: Path, bases):
        self.bases, self.variables = [Path(base) for base in bases], variables(tree)

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="ray")  # short: the system bounds the names of sockets
        command = [sys.executable, __file__, *map(str, self.bases)]
        environment = {**os.environ, **self.variables, "RAY_TMPDIR": self.folder, "PYTHONPATH": str(TOOLS)}
        with open(Path(self.folder) / "cluster.log", "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        told = self.process.stdout.readline()
        assert told, (Path(self.folder) / "cluster.log").read_text()
        self.address, self.raylets = json.loads(told).values()
        return self

    def __exit__(self, *_):
        self.process.communicate()  # its input ends, and so does it
        shutil.rmtree(self.folder, ignore_errors=True)

    def lose_second(self):
        """SIGKILL to all that Ray runs on the second node, as if its machine had lost power; its ComfyUI is not touched."""
        raylet = psutil.Process(self.raylets[1])
        for process in [raylet, *raylet.children()]:
            process.kill()

    def hosts_of(self, number: int) -> list[psutil.Process]:
        """The ComfyUI processes that work in a node's folder."""
        told = {"--base-directory", str(self.bases[number])}
        return [process for process in psutil.process_iter(["cmdline"]) if told <= set(process.info["cmdline"] or [])]


def main():
    from ray.cluster_utils import Cluster

    import version

    labels, cluster, nodes = {"bloom4d": version.label()}, Cluster(), []
    Path(os.environ["RAY_TMPDIR"], "ray").mkdir()
    for base in sys.argv[1:]:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=MEMORY, include_dashboard=False, labels=labels, env_vars={"BLOOM4D_BASE": base}))
    print(json.dumps({"address": cluster.address, "raylets": [node.all_processes["raylet"][0].process.pid for node in nodes]}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
