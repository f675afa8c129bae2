"""Ctrl-C: once asks the host to interrupt the prompt, twice ends everything."""

import asyncio
import signal


class Interrupter:
    """A context manager that catches Ctrl-C; `pressed` tells whether it came. The second one raises KeyboardInterrupt."""

    def __init__(self):
        self.pressed = False

    def __enter__(self):
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, *_):
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    async def wait(self):
        """Return once Ctrl-C was pressed."""
        while not self.pressed:
            await asyncio.sleep(0.1)
        print("\nInterrupting; Ctrl-C again ends at once.", flush=True)


async def run(connection, prompt: dict, on_event=None, interrupter: Interrupter | None = None):
    """`connection.run` that Ctrl-C interrupts: the finished client.Run, with status interrupted also when it never began."""
    import client  # needs the environment's packages; `launch.py run --help` does without

    if interrupter is None:
        return await connection.run(prompt, on_event)
    prompt_id = await connection.queue(prompt)
    following, pressing = asyncio.create_task(connection.follow(prompt_id, on_event)), asyncio.create_task(interrupter.wait())
    try:
        await asyncio.wait({following, pressing}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done() and await connection.cancel(prompt_id):
            return client.Run(prompt_id, "interrupted")
        return await following
    finally:
        following.cancel()
        pressing.cancel()
