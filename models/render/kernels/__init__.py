"""Fast twins as warp kernels, one source for CPU and CUDA; the only modules that import warp, and only ever imported lazily.

Importing this starts warp without a word but one: that kernels are about to be compiled. They are kept where the environment
variable WARP_CACHE_PATH says, else where a host has told `backend.keep_kernels_in`, else in the user's cache folder. A process
in which another package has started warp already keeps that one's folder.
"""

import contextlib
import logging
import os
import tempfile
from pathlib import Path

from .. import backend

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
    if backend.kernel_folder is not None and "WARP_CACHE_PATH" not in os.environ and wp.config.kernel_cache_dir is None:
        wp.config.kernel_cache_dir = str(backend.kernel_folder)
    wp.init()

if not any(Path(wp.config.kernel_cache_dir).glob("wp_bloom4d_*")):
    logging.info("Bloom4D: compiling its kernels, once: seconds for a CPU, up to a minute for a GPU")
