"""Where rows run: a ComfyUI that the batch starts and ends itself, or a running server that it only uses."""

import asyncio
import ipaddress
import time
import urllib.parse

import aiohttp
import client
import host

BUSY = 60.0  # seconds that a host of ours which is alive has to answer again
RECONNECT = 15.0  # seconds that a server which dropped the connection has to answer again


class OwnHost:
    """A ComfyUI of ours, started when entered; `recover` starts it again after a crash. folder: its log; arguments: further flags."""

    local = True

    def __init__(self, announce=print, folder=None, arguments=()):
        self.announce, self.running = announce, None
        self.folder, self.arguments = folder or host.data_folder(), arguments

    @property
    def address(self) -> str:
        return self.running.address

    @property
    def where(self) -> str:
        return "own host"

    def __enter__(self):
        (self.folder / "host.log").unlink(missing_ok=True)
        self._start("Starting ComfyUI ...")
        return self

    def __exit__(self, *_):
        if self.running is not None:
            self.running.stop()

    def _start(self, words: str):
        self.announce(words)
        began = time.monotonic()
        self.running = host.Host(host.tree(), self.folder / "host.log", [*host.working_arguments(self.folder), *self.arguments])
        self.running.__enter__()
        self.announce(f"ComfyUI answers at {self.running.url} after {time.monotonic() - began:.1f} s")

    def check(self, prompts: list[dict]):
        """Nothing: our own host refuses a row that it cannot run, and the others go on."""

    def recover(self):
        """Make the host answer again; HostFailed when it does not start."""
        end = time.monotonic() + BUSY
        while self.running.process.poll() is None and time.monotonic() < end:
            if self.running.answers():
                return
            time.sleep(0.5)
        self.running.kill()
        self._start(f"ComfyUI ended (code {self.running.process.returncode}); starting it again ...")

    def last_words(self) -> str:
        """What the host's log says at its end, in one line."""
        lines = [line.strip() for line in self.running.log_text().splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'its log is empty'} (whole log: {self.running.log})"


class GivenServer:
    """A running server at a URL. It is checked when entered, and never started or ended."""

    def __init__(self, address: str):
        try:
            self.url = client.base_url(address)
        except ValueError as error:
            raise host.HostFailed(str(error)) from None
        self.address = self.url
        self.local = False

    @property
    def where(self) -> str:
        """The URL without a password that it may hold."""
        parts = urllib.parse.urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def __enter__(self):
        self.local = asyncio.run(self._look())
        return self

    def __exit__(self, *_):
        pass

    def check(self, prompts: list[dict]):
        """HostFailed when the server lacks a node that all prompts need."""
        missing = asyncio.run(self._missing(set.intersection(*({node["class_type"] for node in prompt.values()} for prompt in prompts))))
        if missing:
            remedy = "install Bloom4D into its custom_nodes" if any(name.startswith("Bloom4D") for name in missing) else "install the packs that bring them"
            raise host.HostFailed(f"the server at {self.where} does not know {', '.join(missing)}: {remedy} and restart it.")

    def recover(self):
        """Wait until the server answers again; HostFailed when it does not."""
        end = time.monotonic() + RECONNECT
        while True:
            try:
                asyncio.run(self._look())
                return
            except host.HostFailed:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def last_words(self) -> str:
        return f"the server at {self.where} dropped the connection"

    async def _look(self) -> bool:
        """Whether the server is this machine; HostFailed when no ComfyUI answers."""
        try:
            async with client.Client(self.address) as connection:
                stats = await connection.get_json("/system_stats")
                return is_loopback(self.url) and stats["system"]["ram_total"] == total_memory()
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError, KeyError, TypeError) as error:
            raise host.HostFailed(f"no ComfyUI answers at {self.where} ({explain(error)}): start one there, or leave --host away "
                                  "to run on a ComfyUI of our own.") from None

    async def _missing(self, classes: set[str]) -> list[str]:
        async with client.Client(self.address) as connection:
            return [name for name in sorted(classes) if name not in await connection.get_json(f"/object_info/{urllib.parse.quote(name, safe='')}")]


def explain(error: Exception) -> str:
    """Why a server does not answer, in a few words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "it does not speak https; try http://"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the answer has status {error.status}, so something else is there"
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def is_loopback(url: str) -> bool:
    name = urllib.parse.urlsplit(url).hostname
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def total_memory() -> int:
    """Bytes of memory of this machine, as ComfyUI counts them: tells a forwarded port from a server that is here."""
    import psutil

    return psutil.virtual_memory().total
