"""The most bytes that a forward holds at once, counted on the meta device: any size, no memory, no GPU.

Every new storage is counted until Python lets go of it. Attention is counted as kernels that keep no matrix of weights do it.
"""

import weakref
from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """`peak` and `now`: bytes of the tensors made under it."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage):
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key, size):
        self._known.discard(key)
        self.now -= size


@contextmanager
def attention_without_weights():
    """torch's fused attention on the meta device, which would otherwise spell the matrix out."""
    empty = lambda q, k, v, *rest, **options: q.new_empty(*q.shape[:-1], v.shape[-1])  # noqa: E731
    with mock.patch("torch.nn.functional.scaled_dot_product_attention", empty):
        yield


def peak_of(forward) -> int:
    """Bytes that `forward()` takes at its peak beside what was there before."""
    with torch.inference_mode(), attention_without_weights(), LiveMemory() as memory:
        result = forward()
        del result
    return memory.peak
