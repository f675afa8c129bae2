"""Fast twins as warp kernels, one source for CPU and CUDA; the only modules that import warp, and only ever imported lazily.

Importing this starts warp without a word. Compiled kernels are kept in the folder that the environment variable
WARP_CACHE_PATH names, by default in the user's cache folder.
"""

import contextlib
import os
import tempfile

NO_DRIVER = b"Warp CUDA warning: Could not find or load the NVIDIA CUDA driver"


@contextlib.contextmanager
def without_driver_warning():
    """Keep one line of warp's native code off the console: that there is no GPU driver. What else is written meanwhile follows after."""
    try:
        console = os.dup(2)
    except OSError:  # a program without a console
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(console, 2)
            os.close(console)
            kept.seek(0)
            os.write(2, b"".join(line for line in kept if not line.startswith(NO_DRIVER)))


with without_driver_warning():
    import warp as wp

    wp.config.log_level = wp.LOG_ERROR  # which devices there are and what was compiled is no news in somebody's console
    wp.init()
