"""A node pack without nodes: with BLOOM4D_TEST_DIE_IN_WRITE=n the host dies inside the n-th write of a checkpoint's tensors.

Half of the temporary file is then on the disk, as after a crash between two blocks.
"""

import os
import signal

NODE_CLASS_MAPPINGS = {}
ENTRY = "BLOOM4D_TEST_DIE_IN_WRITE"


def is_checkpoint(descriptor: int) -> bool:
    name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
    return name.startswith("step_") and name.endswith(".safetensors.tmp")


def dying_fsync(write: int):
    """os.fsync that never returns from the `write`-th checkpoint."""
    seen = 0
    fsync = os.fsync

    def flush(file):
        nonlocal seen
        descriptor = file if isinstance(file, int) else file.fileno()
        seen += is_checkpoint(descriptor)
        if is_checkpoint(descriptor) and seen == write:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    return flush


if os.environ.get(ENTRY):
    os.fsync = dying_fsync(int(os.environ[ENTRY]))
