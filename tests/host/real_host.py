"""A running host as tests see it: synchronous calls that assert a full acceptance of every prompt."""

import asyncio
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import client
import host as host_process


@dataclass
class Server:
    """host: the process. base: its base directory. Every method opens its own connection."""

    host: host_process.Host
    base: Path

    @property
    def url(self) -> str:
        return self.host.url

    @property
    def log(self) -> str:
        return self.host.log_text()

    def _with_client(self, use):
        async def main():
            async with client.Client(self.host.address) as connection:
                return await use(connection)

        return asyncio.run(main())

    def run(self, prompt: dict, on_event=None, expect: str | None = "success", extra_data: dict | None = None) -> client.Run:
        """Queue a prompt, wait for its end and assert how it ended; `on_event(event, prompt_id, client)` may act meanwhile."""
        async def use(connection):
            async def act(event, prompt_id):
                if on_event is not None:
                    await on_event(event, prompt_id, connection)

            return await connection.run(prompt, act, extra_data)

        result = self._with_client(use)
        assert expect in (None, result.status), (result.status, [event.data for event in result.of("execution_error")])
        return result

    def reject(self, prompt: dict) -> dict:
        """Queue a prompt that the host must refuse; returns the host's answer."""
        try:
            self._with_client(lambda connection: connection.queue(prompt))
        except client.Rejected as refusal:
            return refusal.answer
        raise AssertionError("the host accepted the prompt")

    def get(self, path: str):
        return self._with_client(lambda connection: connection.get_json(path))

    def get_text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return response.read().decode("utf-8")

    def post(self, path: str, body: dict):
        return self._with_client(lambda connection: connection.post(path, body))

    def view(self, file: dict) -> bytes:
        return self._with_client(lambda connection: connection.view(file))


def prepare_base(base: Path, pack: Path | None = None) -> Path:
    """A base directory whose only custom node pack is a link to `pack`, or without any; the frontend's first-run dialogs are answered."""
    (base / "custom_nodes").mkdir(parents=True)
    if pack is not None:
        (base / "custom_nodes" / "bloom4d").symlink_to(pack, target_is_directory=True)
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"Comfy.TutorialCompleted": true, "Comfy.InstalledVersion": "1.47.12", '
                        '"Comfy.RightSidePanel.IsOpen": false, "Comfy.Minimap.Visible": false}', encoding="utf-8")
    return base


def start(tree: Path, base: Path, arguments=(), environment=None) -> Server:
    """A hermetic, offline host on a prepared base directory; leave it with `server.host.stop()`."""
    flags = [*host_process.hermetic_arguments(base), *arguments]
    running = host_process.Host(tree, base / "host.log", flags, environment={"BLOOM4D_OFFLINE": "1", **(environment or {})})
    return Server(running.__enter__(), base)
