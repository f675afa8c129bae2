"""All rows of a batch on a Ray cluster. Ray places the hosts, starts lost ones again and tries their rows elsewhere; what is here
checks the nodes, queues the rows and writes their results down."""

import hashlib
import ipaddress
import os
import secrets
import shutil
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import host
import node
import show
import version

from .executor import first_line, started_line
from .manifest import Manifest
from .rows import Row

LOCAL = "local"
OBJECT_STORE = 256 << 20  # bytes of shared memory for results on their way, where we start the cluster
CLOSING = 15.0  # seconds that the hosts get to end


class ClusterError(host.HostFailed):
    """The cluster cannot run rows; the message is what the user reads."""


@dataclass(frozen=True)
class Hosts:
    """How many ComfyUIs the cluster holds, and what Ray reserves for each."""

    count: int
    options: dict


def import_ray(address: str):
    """The package ray, set to send nothing anywhere; on this machine alone it also listens to nobody else."""
    os.environ.update(node.variables())
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # of this one cluster; Ray would leave a file in the home folder
    if address == LOCAL or is_loopback(address):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's switch for "this machine only": its sockets are loopback
    try:
        import ray
    except ImportError:
        import sys

        raise ClusterError(f"--ray needs the package ray (extra `cluster`), which {sys.executable} does not have: install it with\n"
                           f"  {sys.executable} -m pip install ray") from None
    return ray


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.rpartition(":")[0]).is_loopback
    except ValueError:
        return address.startswith("localhost:")


@contextmanager
def connected(address: str):
    """The ray module while it is connected; `local` starts a cluster of this machine and ends it afterwards."""
    ray = import_ray(address)
    options = {"labels": {node.LABEL: version.label()}, "object_store_memory": OBJECT_STORE, "include_dashboard": False} if address == LOCAL else {}
    try:
        knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError, or whatever Ray says about the address
        raise ClusterError(f"no Ray cluster answers at {address} ({first_line(str(error))}): begin one with `launch.py node --head`, "
                           "run this on one of its machines, or use --ray local.") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def knock(address: str):
    """OSError when nobody listens at host:port; Ray itself would wait for minutes."""
    name, _, port = address.rpartition(":")
    if name and port.isdecimal() and "/" not in address:
        socket.create_connection((name, int(port)), timeout=10).close()


def plan(nodes: list[dict], wanted: str, cores: int = 0) -> Hosts:
    """Hosts for the nodes of ray.nodes(): one per GPU where there are any, else one per `cores` (0: all cores of the smallest node).

    ClusterError for a node that was not started by `launch.py node`, or that runs another Bloom4D.
    """
    working = [entry for entry in nodes if entry["Alive"] and entry["Resources"].get("CPU")]
    for entry in working:
        check(entry, wanted)
    gpus = sum(int(entry["Resources"].get("GPU", 0)) for entry in working)
    if gpus:
        return Hosts(gpus, {"num_gpus": 1})
    sizes = [int(entry["Resources"]["CPU"]) for entry in working]
    cores = cores or min(sizes, default=0)
    if not cores or not (count := sum(size // cores for size in sizes)):
        raise ClusterError(f"no node of the cluster has {cores or 'any'} cores for a host; the nodes have {sizes}: lower --cores-per-host.")
    return Hosts(count, {"num_cpus": cores})


def check(entry: dict, wanted: str):
    there = entry.get("Labels", {}).get(node.LABEL)
    if there is None:
        raise ClusterError(f"the Ray node at {entry['NodeManagerAddress']} was not started by `launch.py node`, so it has no ComfyUI for us: "
                           "start it that way, or give it no CPUs.")
    if there != wanted:
        raise ClusterError(f"the Ray node at {entry['NodeManagerAddress']} runs Bloom4D {there}, and this machine {wanted}: "
                           "bring both to the same commit and start `launch.py node` there again.")


@dataclass
class Batch:
    """A batch at work. rows: reference -> row that has not ended. starting: references to hosts whose constructor has not ended."""

    ray: object
    manifest: Manifest
    announce: object
    total: int
    desk: object
    hosts: list
    rows: dict
    starting: list
    broken: list = field(default_factory=list)
    stopping: bool = False


def run_all(rows: list[Row], address: str, cores: int, manifest: Manifest, announce, interrupter=None):
    """Run rows on the cluster at `address` (local, auto or host:port) and append their lines to the manifest as they end."""
    with connected(address) as ray:
        hosts = plan(ray.nodes(), version.label(), cores)
        count = min(hosts.count, len(rows))
        announce(f"Ray cluster of {sum(entry['Alive'] for entry in ray.nodes())} nodes; starting {count} ComfyUI ...")
        batch = begin(ray, rows, Hosts(count, hosts.options), manifest, announce)
        try:
            while batch.rows:
                advance(batch, interrupter)
        finally:
            ray.wait([batch.desk.close.remote()], timeout=CLOSING)


def begin(ray, rows: list[Row], hosts: Hosts, manifest: Manifest, announce) -> Batch:
    """Start the desk here and the hosts where Ray finds room, and queue every row."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from .cluster_host import DESK, ClusterHost, Desk

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = Desk.options(name=DESK, scheduling_strategy=here, max_concurrency=len(rows) + 100).remote()
    placed = ClusterHost.options(label_selector={node.LABEL: version.label()}, **hosts.options)
    actors = [placed.remote() for _ in range(hosts.count)]
    queued = {desk.run.remote(row): row for row in rows}
    return Batch(ray, manifest, announce, len(rows), desk, actors, queued, [one.started.remote() for one in actors])


def advance(batch: Batch, interrupter):
    """Take what has happened within a second."""
    ended, _ = batch.ray.wait([*batch.starting, *batch.rows], num_returns=1, timeout=1.0)
    told, failures = batch.ray.get(batch.desk.news.remote())
    for text in told:
        batch.announce(text)
    if interrupter is not None and interrupter.pressed and not batch.stopping:
        stop(batch)
    for reference in ended:
        if reference in batch.starting:
            note_start(batch, reference)
        else:
            conclude(batch, reference)
    if len(failures := [*failures, *batch.broken]) >= len(batch.hosts):
        raise ClusterError(f"no node of the cluster can start its ComfyUI: {failures[0]}")


def stop(batch: Batch):
    """Interrupt the rows that run and begin no other."""
    batch.stopping = True
    batch.desk.stop.remote()
    for one in batch.hosts:
        one.interrupt.remote()


def note_start(batch: Batch, reference):
    batch.starting.remove(reference)
    try:
        batch.ray.get(reference)
    except batch.ray.exceptions.RayActorError as error:
        batch.broken.append(str(error).strip().splitlines()[-1])


def conclude(batch: Batch, reference):
    """Write down how a row ended; one that was never begun, after Ctrl-C, leaves no line."""
    row = batch.rows.pop(reference)
    result = result_of(batch.ray, reference, row)
    if result is None:
        return
    line, files = result
    folder = batch.manifest.path.parent / line["folder"]
    if line["status"] == "success":
        write_files(folder, files, line["hashes"])
    if not all(Path(path).is_file() for path in line["model_paths"].values()):
        line["model_paths"] = {}  # files of another machine, which this one cannot look at again
    batch.manifest.append(line)
    done = batch.total - len(batch.rows)
    batch.announce(f"--- {done}/{batch.total}  row {row.number}: {line['status']} after {show.clock(line['seconds'])} on {line['where']}  "
                   + (line["error"] or (str(folder) if line["outputs"] else "")))


def result_of(ray, reference, row: Row):
    """(line, files) of an ended row, None of one that was not begun."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayActorError:
        return {**started_line(row, "ray"), "error": "its host was lost again and again, on whatever node: it may need more memory than they have."}, {}
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        return {**started_line(row, "ray"), "error": f"{type(cause).__name__}: {first_line(str(cause))}"}, {}


def write_files(folder: Path, files: dict, hashes: dict):
    """The row's folder, complete or not there at all."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in files.items():
        assert hashlib.sha256(content).hexdigest() == hashes[name], f"{name} changed on its way"
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
