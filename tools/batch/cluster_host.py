"""What a batch starts on a Ray cluster: a desk where rows wait for a free host, and actors that own one ComfyUI each."""

import asyncio
import contextlib
import heapq
import os
import tempfile
from pathlib import Path

import filelock
import host
import interrupt
import ray

from . import attempts, places
from .rows import Row

DESK = "desk"
TRIES = 3  # further ones of a row whose host was lost: a row that kills every machine must not do so for ever


@ray.remote(num_cpus=0)
class Desk:
    """Hands each row to a host that is free. Lives on the machine that runs the batch, so results are safe once they are here."""

    def __init__(self):
        self.free: dict[str, tuple] = {}  # actor id -> (where it is, its handle): one that was lost while free comes back under its id
        self.waiting: list[int] = []  # numbers of the rows that wait, the lowest first
        self.changed = asyncio.Condition()
        self.failures: dict[str, str] = {}  # actor id -> why it cannot start its ComfyUI
        self.told: list[str] = []
        self.stopped = False

    async def arrive(self, name: str, where: str, handle):
        """A host is free: after its start, after Ray has started it again, and after each row."""
        async with self.changed:
            self.free[name] = where, handle
            self.failures.pop(name, None)
            self.changed.notify_all()

    async def take(self, number: int) -> tuple:
        """(actor id, where, handle) of a free host, once there is one and no row before `number` waits."""
        async with self.changed:
            heapq.heappush(self.waiting, number)
            await self.changed.wait_for(lambda: self.free and self.waiting[0] == number)
            heapq.heappop(self.waiting)
            self.changed.notify_all()
            name = next(iter(self.free))
            return name, *self.free.pop(name)

    @ray.method(max_task_retries=TRIES, retry_exceptions=[ray.exceptions.RayActorError])
    async def run(self, row: Row):
        """(manifest line, {path: bytes}) of a row; None after `stop`. A lost host raises, and Ray calls this again."""
        name, where, handle = await self.take(row.number)
        try:
            result = None if self.stopped else await handle.run.remote(row)
        except ray.exceptions.RayActorError:
            self.told.append(f"[{where}] was lost in row {row.number}; Ray tries that row elsewhere.")
            raise
        except ray.exceptions.RayTaskError:
            await self.arrive(name, where, handle)
            raise
        await self.arrive(name, where, handle)
        return result

    async def stop(self):
        """Start no further row."""
        self.stopped = True

    async def fail(self, name: str, where: str, reason: str):
        """A host cannot start."""
        self.failures[name] = reason
        self.told.append(f"[{where}] no host: {reason}")

    async def close(self):
        """End the free hosts in good order; those that work end with their actors."""
        await asyncio.gather(*(handle.close.remote() for _, handle in self.free.values()), return_exceptions=True)

    async def tell(self, text: str):
        self.told.append(text)

    async def news(self) -> tuple[list[str], list[str]]:
        """What the hosts have said since the last call, and why some cannot start."""
        told, self.told = self.told, []
        return told, list(self.failures.values())


class NodeHost(places.OwnHost):
    """A ComfyUI with output and temporary folders of its own, since several may run on a machine; its number finds them again."""

    def __init__(self, announce):
        self.number, self.lock = self._take_number(host.data_folder() / "cluster")
        folder = Path(self.lock.lock_file).parent
        super().__init__(announce, folder, ["--output-directory", folder / "output", "--temp-directory", folder])

    @staticmethod
    def _take_number(folder: Path):
        """The lowest number that no running host of this machine has, and the lock that holds it until this process ends."""
        for number in range(1000):
            lock = filelock.FileLock(folder / f"host{number}" / "lock")
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0)
                return number, lock
        raise host.HostFailed(f"{folder} holds a thousand hosts that run: end some of them.")

    @property
    def where(self) -> str:
        return f"{ray.util.get_node_ip_address()} ({ray.get_runtime_context().get_node_id()[:6]}) host {self.number}"


class Lines:
    """A stream whose whole lines go to the desk."""

    def __init__(self, say):
        self.say, self.text = say, ""

    def isatty(self) -> bool:
        return False

    def write(self, text: str):
        *lines, self.text = (self.text + text).split("\n")
        for line in lines:
            self.say(line)

    def flush(self):
        pass


@ray.remote(max_restarts=-1, max_concurrency=2, scheduling_strategy="SPREAD")
class ClusterHost:
    """One ComfyUI on the resources that Ray gave it; it ends with this actor."""

    def __init__(self):
        self.desk, self.row = ray.get_actor(DESK), ""
        self.interrupter = interrupt.Interrupter()
        self.place = NodeHost(self.say)
        context = ray.get_runtime_context()
        try:
            self.place.__enter__()
        except host.HostFailed as error:
            self.desk.fail.remote(context.get_actor_id(), self.place.where, str(error).splitlines()[0])
            return
        self.desk.arrive.remote(context.get_actor_id(), self.place.where, context.current_actor)

    def say(self, text: str):
        self.desk.tell.remote(f"[{self.place.where}] {self.row}{text}")

    @ray.method(max_task_retries=-1)
    def started(self):
        """Answers once the constructor is through; raises what it raised."""

    def run(self, row: Row) -> tuple[dict, dict]:
        """A row's manifest line, and its files as {path below its folder: bytes}.

        A ComfyUI that does not start again after a crash ends this actor: Ray then starts it anew where there is room.
        """
        self.row = f"row {row.number}: "
        with tempfile.TemporaryDirectory(dir=self.place.folder) as out, contextlib.redirect_stdout(Lines(self.say)):
            try:
                line = attempts.run_row(row, self.place, Path(out), self.say, self.interrupter, lines=True)
            except host.HostFailed:
                os._exit(1)
            files = {name: (Path(out) / line["folder"] / name).read_bytes() for name in line["outputs"]}
        self.row = ""
        return line, files

    def interrupt(self):
        """Interrupt the prompt that runs; its checkpoint stays on this machine."""
        self.interrupter.pressed = True

    def close(self):
        self.place.__exit__()
