"""The header of a safetensors file in a fixed order, so that equal content gives equal bytes."""

import json
import struct


def order_metadata(data: bytes) -> bytes:
    """A safetensors file with its metadata sorted by key: the library writes several keys in no fixed order.

    `data` and the result: a whole file. The tensors and every offset stay where they are.
    """
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if "__metadata__" not in header:
        return data
    ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()  # as compact as the library's own
    assert len(text) <= length, "the header must keep its length: the tensors follow it"
    return data[:8] + text.ljust(length) + data[8 + length :]  # padded with spaces, as the library does
