"""Progress, previews, loss text and interrupts of a long node, on the host's own channels."""

import logging
import sys
import time
from collections.abc import Callable

import comfy.model_management
import torch
from comfy.cli_args import args
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image

TEXT_SECONDS = 0.25
PREVIEW_SECONDS = 0.25


def executing_node() -> str | None:
    """The id of the node that the host is executing in this thread, None outside the host."""
    context = get_executing_context()
    return None if context is None else context.node_id


def to_picture(image: torch.Tensor | Image.Image) -> Image.Image:
    """A preview (H, W, 3) or (1, H, W, 3) in [0, 1] as a PIL picture."""
    if isinstance(image, Image.Image):
        return image
    pixels = image.detach().reshape(image.shape[-3:])[..., :3].clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    return Image.fromarray(pixels.numpy())


def duration(seconds: float) -> str:
    """Seconds as people read them: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class HostCallback:
    """Reports the steps of one node and ends the run when the user interrupts.

    `total` steps in all; `first` already done (a resumed run). `node_id` None takes the executing node; outside the host
    nothing is sent, interrupts are still obeyed. The progress value goes out at every step, text and previews at most four
    times a second. `note`: what to say all the time, since each text replaces the last; its words before a colon stand behind
    every text.
    """

    def __init__(self, total: int, node_id: str | None = None, first: int = 0, clock: Callable[[], float] = time.monotonic, note: str = ""):
        self.total, self.first, self.clock, self.note = total, first, clock, note
        self.node_id = node_id or executing_node()
        self.started = clock()
        self.done = first
        self._due = {"text": self.started, "preview": self.started}
        self._preview_failed = False

    def __call__(self, done: int, text: str = "", preview: Callable[[], torch.Tensor | Image.Image] | None = None):
        """Report that `done` steps are finished, and check for an interrupt.

        `preview` is only called when a picture is due; whatever it raises is logged once and never ends the run. Raises the
        host's InterruptProcessingException (a BaseException: clean up in `finally`).
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.done = done
        if self.node_id is None:
            return
        picture = self._picture(preview) if preview is not None and self._is_due("preview", PREVIEW_SECONDS) else None
        self._send_progress(picture)
        if done >= self.total or self._is_due("text", TEXT_SECONDS):
            line = ", ".join(filter(None, (f"step {done}/{self.total}", text, self.remaining())))
            self._send_text(" - ".join(filter(None, (line, self.note.partition(": ")[0]))))

    def remaining(self) -> str:
        """The time left at the average pace so far, as text; empty before the first step and at the end."""
        steps = self.done - self.first
        if steps <= 0 or self.done >= self.total:
            return ""
        return f"{duration((self.clock() - self.started) / steps * (self.total - self.done))} left"

    def _is_due(self, kind: str, interval: float) -> bool:
        now = self.clock()
        if now < self._due[kind]:
            return False
        self._due[kind] = now + interval
        return True

    def _picture(self, preview) -> Image.Image | None:
        try:
            return to_picture(preview())
        except Exception as error:  # a preview is a courtesy: it must never cost the run
            if not self._preview_failed:
                logging.warning("Bloom4D: no preview (%s: %s)", type(error).__name__, error)
            self._preview_failed = True
            return None

    def _send_progress(self, picture: Image.Image | None):
        image = None if picture is None else ("JPEG", picture, args.preview_size)
        get_progress_state().update_progress(self.node_id, self.done, self.total, image)

    def _send_text(self, text: str):
        server = sys.modules.get("server")  # exists only in the running host
        if server is not None and getattr(server.PromptServer, "instance", None) is not None:
            server.PromptServer.instance.send_progress_text(text, self.node_id)
