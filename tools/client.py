"""Queue API-format prompts in a running ComfyUI and follow them over its websocket."""

import json
import struct
import urllib.parse
import uuid
from dataclasses import dataclass, field

import aiohttp

ENDS = ("execution_success", "execution_error", "execution_interrupted")
NOT_IN_LIST = "value_not_in_list"  # the host's name for a choice that it does not have
PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # binary event types of the host


def base_url(address: str) -> str:
    """The URL below which a host answers, of `name:port` or of an http(s) URL with or without a path; ValueError says what is wrong."""
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ValueError(f"{address} is no address of a ComfyUI: write http://NAME:PORT or https://NAME/PATH, without anything after it.")
    return url.rstrip("/")


class Rejected(RuntimeError):
    """The host did not accept the prompt, or accepted only part of it; `answer` is its JSON."""

    def __init__(self, message: str, answer: dict):
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True)
class Event:
    """One message about a prompt: JSON events keep their host name, binary ones are "text" and "preview"."""

    kind: str
    data: dict
    image: bytes = b""


@dataclass
class Run:
    """A finished prompt. status: success, error or interrupted; outputs: node id -> the node's ui dictionary."""

    prompt_id: str
    status: str = ""
    events: list = field(default_factory=list)
    outputs: dict = field(default_factory=dict)

    def of(self, kind: str) -> list:
        return [event for event in self.events if event.kind == kind]

    @property
    def error(self) -> dict:
        """The host's execution_error: node_id, node_type, exception_message, exception_type, traceback."""
        return self.of("execution_error")[0].data

    @property
    def executed(self) -> list:
        """Ids of the nodes that ran, in order; cached ones are not among them."""
        return [event.data["node"] for event in self.of("executing") if event.data.get("node")]

    @property
    def cached(self) -> set:
        return {node for event in self.of("execution_cached") for node in event.data["nodes"]}


def parse_binary(message: bytes) -> Event | None:
    """A binary websocket message: progress text, or a preview picture with the node it belongs to."""
    kind, = struct.unpack(">I", message[:4])
    if kind not in (TEXT, PREVIEW_WITH_METADATA):
        return None
    size, = struct.unpack(">I", message[4:8])
    head, rest = message[8 : 8 + size].decode("utf-8"), message[8 + size :]
    if kind == TEXT:
        return Event("text", {"node": head, "text": rest.decode("utf-8", "replace")})
    return Event("preview", json.loads(head), rest)


def explain_rejection(answer: dict, prompt: dict) -> str:
    """A line for every missing file that our graphs name, else for the first problem of each node that the host rejects, with its title."""
    lines = [f"{title_of(prompt, node_id)}: {line}" for node_id, problem in (answer.get("node_errors") or {}).items() for line in problem_lines(problem["errors"], prompt.get(str(node_id), {}))]
    if lines:
        return "\n".join(lines)
    error = answer.get("error") or {}
    return f"{error.get('message', 'the host rejected the workflow')} {error.get('details', '')}".strip()


def problem_lines(errors: list[dict], node: dict) -> list[str]:
    """What to say about the problems of a prompt's node. The host says of a file only that it is not in a list: we say which one is meant and where it is."""
    from graphs.known_files import KNOWN

    values = [(error, node.get("inputs", {}).get(error.get("extra_info", {}).get("input_name"))) for error in errors]
    files = [(error, KNOWN[value]) for error, value in values if isinstance(value, str) and value in KNOWN]
    if not files:
        return [f"{errors[0]['message']} ({errors[0]['details']})"]
    return [file.missing() if error["type"] == NOT_IN_LIST else f"{error['message']} ({error['details']}) {file.name}: {file.details()}." for error, file in files]


def title_of(prompt: dict, node_id: str) -> str:
    """The title a person sees: the node's own, else its class."""
    node = prompt.get(str(node_id), {})
    return node.get("_meta", {}).get("title") or node.get("class_type", str(node_id))


class Client:
    """An open websocket and HTTP session to one host: `async with Client(address) as client`.

    address: "name:port", or an http or https URL with any path; ConnectionError or aiohttp.ClientError when nobody answers.
    """

    def __init__(self, address: str):
        self.url = base_url(address)
        self.id = uuid.uuid4().hex

    async def __aenter__(self):
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=300))
        try:
            await self._open_socket()
        except BaseException:
            await self.session.close()
            raise
        return self

    async def _open_socket(self):
        self.socket = await self.session.ws_connect(f"{self.url}/ws?clientId={self.id}", max_msg_size=0, heartbeat=120)
        # without this first message the host sends previews that do not say which node they belong to
        await self.socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})

    async def __aexit__(self, *_):
        await self.socket.close()
        await self.session.close()

    async def get_json(self, path: str):
        async with self.session.get(self.url + path) as response:
            response.raise_for_status()
            return await response.json()

    async def post(self, path: str, body: dict):
        """(status, JSON or None) of a POST; the host answers some with an empty body."""
        async with self.session.post(self.url + path, json=body) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith(("{", "[")) else None

    async def queue(self, prompt: dict, extra_data: dict | None = None) -> str:
        """Queue a prompt and return its id; anything but a full acceptance raises `Rejected`."""
        body = {"prompt": prompt, "client_id": self.id, "extra_data": extra_data or {}}
        status, answer = await self.post("/prompt", body)
        if answer is None:
            raise Rejected(f"the host answered with status {status} and no explanation", {})
        if status != 200 or answer["node_errors"]:
            raise Rejected(explain_rejection(answer, prompt), answer)
        return answer["prompt_id"]

    async def events(self, prompt_id: str):
        """Yield what happens to a prompt until it ends. Raises ConnectionError when the host goes away."""
        async for message in self.socket:
            event = self._event(message, prompt_id)
            if event is None:
                continue
            if event.kind == "executing" and event.data.get("node") is None:
                return  # sent once the history is written, after execution_success, _error or _interrupted
            yield event
        raise ConnectionError("the host closed the connection")

    def _event(self, message, prompt_id):
        if message.type == aiohttp.WSMsgType.BINARY:
            return parse_binary(message.data)
        if message.type != aiohttp.WSMsgType.TEXT:
            return None
        content = json.loads(message.data)
        data = content.get("data") or {}
        return Event(content["type"], data) if data.get("prompt_id") == prompt_id else None

    async def run(self, prompt: dict, on_event=None, extra_data: dict | None = None) -> Run:
        """Queue, follow to the end, and fetch the outputs."""
        return await self.follow(await self.queue(prompt, extra_data), on_event)

    async def follow(self, prompt_id: str, on_event=None) -> Run:
        """Follow a queued prompt to its end and fetch the outputs."""
        result = Run(prompt_id)
        async for event in self.events(prompt_id):
            result.events.append(event)
            if on_event is not None:
                await on_event(event, prompt_id)
        result.status = next(event.kind for event in reversed(result.events) if event.kind in ENDS).removeprefix("execution_")
        history = await self.get_json(f"/history/{result.prompt_id}")
        result.outputs = history.get(result.prompt_id, {}).get("outputs", {})
        return result

    async def interrupt(self, prompt_id: str):
        await self.post("/interrupt", {"prompt_id": prompt_id})

    async def cancel(self, prompt_id: str) -> bool:
        """Interrupt a prompt, or take it out of the queue; True when it had not begun, so that nothing more will be told of it."""
        waiting = any(entry[1] == prompt_id for entry in (await self.get_json("/queue"))["queue_pending"])
        await self.post("/queue", {"delete": [prompt_id]})
        await self.interrupt(prompt_id)
        return waiting and all(entry[1] != prompt_id for entry in (await self.get_json("/queue"))["queue_running"])

    async def view(self, file: dict) -> bytes:
        """Bytes of a file that an output names: {filename, subfolder, type}."""
        async with self.session.get(self.url + "/view", params={key: file[key] for key in ("filename", "subfolder", "type")}) as response:
            response.raise_for_status()
            return await response.read()
