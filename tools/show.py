"""What happens to a queued workflow, as lines in a terminal. Standard library only."""

import shutil
import sys
import time

EVERY = 5.0  # seconds between lines of one node where the output is no terminal


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def fitted(line: str, width: int) -> str:
    """`line` in `width` characters: what is cut lies before its last words, which tell the time left."""
    if len(line) <= width:
        return line
    place = max(line.rfind(", "), line.rfind("  "))
    end = line[place:] if place > 0 and len(line) - place < width // 3 else ""
    return line[: width - len(end) - 3] + "..." + end if end else line[:width]


class Lines:
    """One line per node: title, step, the node's own text (loss), estimated time left, time taken.

    titles: node id -> title. stream: where to write; a terminal gets one line that changes, anything else one every few seconds.
    """

    def __init__(self, titles: dict, stream=None, now=time.monotonic):
        self.titles, self.stream, self.now = titles, stream or sys.stdout, now
        self.live = self.stream.isatty()
        self.started = now()
        self.first_preview = None
        self.done = 0
        self.node = None
        self._reset()

    def _reset(self):
        self.node_started = self.last_line = self.now()
        self.value, self.of, self.text, self.first_step = 0, 0, "", None

    def handle(self, event):
        """Take one event of tools/client.py."""
        action = {"executing": self._executing, "execution_cached": self._cached, "progress_state": self._progress,
                  "text": self._text, "preview": self._preview}.get(event.kind)
        if action is not None:
            action(event.data)

    def finish(self):
        """Close the line of the node that ran last."""
        if self.node is None:
            return
        self.done += 1
        self._write(self._line(f"{self.now() - self.node_started:.1f} s"), final=True)
        self.node = None

    def _executing(self, data):
        self.finish()
        self.node = data["display_node"] if data.get("display_node") in self.titles else data["node"]
        self._reset()
        self._draw()

    def _cached(self, data):
        names = [self.titles[node] for node in data["nodes"] if node in self.titles]
        self.done += len(names)
        if names:
            self._write(f"        unchanged since an earlier run: {', '.join(names)}", final=True)

    def _progress(self, data):
        running = [state for state in data["nodes"].values() if state["state"] == "running"]
        if running and running[-1]["max"] > 1:
            self.value, self.of = running[-1]["value"], running[-1]["max"]
            if self.first_step is None and self.value > 0:
                self.first_step = (self.value, self.now())
            self._draw()

    def _text(self, data):
        if "\n" not in data["text"].strip():  # longer texts are results and are printed at the end
            self.text = data["text"].strip()
            self._draw()

    def _preview(self, data):
        if self.first_preview is None:
            self.first_preview = self.now() - self.started

    def _left(self) -> str:
        if self.first_step is None or self.value <= self.first_step[0]:
            return ""
        pace = (self.now() - self.first_step[1]) / (self.value - self.first_step[0])
        return f"{clock(pace * (self.of - self.value))} left"

    def _line(self, end: str) -> str:
        """`end` when the node is done, else the time left; a text that counts steps itself replaces our counting."""
        counted = self.text.startswith("step ")
        step = f"step {self.value:g}/{self.of:g}" if self.of and not counted else ""
        parts = [self.titles.get(self.node, str(self.node)), step, self.text, end or ("" if counted else self._left())]
        return f"[{min(self.done, len(self.titles)):2}/{len(self.titles)}] " + "  ".join(part for part in parts if part)

    def _draw(self):
        if self.node is None:
            return
        if self.live:
            self._write(self._line(""), final=False)
        elif self.now() - self.last_line >= EVERY:
            self.last_line = self.now()
            self._write(self._line(""), final=True)

    def _write(self, line: str, final: bool):
        if self.live:
            width = shutil.get_terminal_size().columns
            line = "\r\x1b[2K" + (line if final else fitted(line, width - 1))
        self.stream.write(line + ("\n" if final else ""))
        self.stream.flush()
