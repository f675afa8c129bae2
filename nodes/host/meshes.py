"""The host's MESH as tensors by name and back, and pictures as PNG files."""

from io import BytesIO

import numpy as np
import torch
from comfy_api.latest import Types
from PIL import Image
from torch import Tensor

HELD = ("vertices", "faces", "uvs", "vertex_colors", "texture", "vertex_counts", "face_counts")
LARGEST = 8192  # pixels along a side of a texture


def tensors_of(mesh: Types.MESH, **pictures: Tensor | None) -> dict[str, Tensor]:
    """A MESH and further maps (`metallic_roughness`, `normal`) by name, without what is not there.

    ValueError where pictures are neither one nor one per time.
    """
    held = {**{name: getattr(mesh, name) for name in HELD}, **pictures}
    found = {name: value.detach().cpu() for name, value in held.items() if value is not None}
    times = len(found["vertices"])
    for name in ("texture", *pictures):
        if name in found and len(found[name]) not in (1, times):
            raise ValueError(f"{len(found[name])} pictures of {name.replace('_', ' ')} came for a mesh of {times} times. Give one for all times, or one each.")
        if name in found:
            found[name] = found[name][..., :3].float()
    return found


def mesh_of(tensors: dict[str, Tensor], unlit: bool) -> Types.MESH:
    """The host's MESH of tensors by name; maps that it has no place for are left out."""
    values = {name: tensors.get(name) for name in HELD[2:]}
    texture = values["texture"]
    if texture is not None and len(texture) < len(tensors["vertices"]):  # the host wants one each
        values["texture"] = texture.expand(len(tensors["vertices"]), *texture.shape[1:])
    return Types.MESH(tensors["vertices"], tensors["faces"].long(), unlit=unlit, **values)


def png_of(picture: Tensor) -> bytes:
    """A picture (H, W, 3) in [0, 1] as a PNG file."""
    pixels = picture.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture_of(png: bytes) -> Tensor:
    """A picture (H, W, 3) in [0, 1] of a PNG or JPEG file; ValueError in a clause when it is none or too large."""
    try:
        with Image.open(BytesIO(png), formats=("PNG", "JPEG")) as image:
            if max(image.size) > LARGEST:
                raise ValueError(f"a texture of {image.size[0]} x {image.size[1]} pixels is in it, at most {LARGEST} are read")
            pixels = np.asarray(image.convert("RGB"), np.float32)
    except (OSError, SyntaxError, Image.DecompressionBombError):  # SyntaxError is PIL's word for a broken PNG
        raise ValueError("one of its textures is no readable picture") from None
    return torch.from_numpy(pixels) / 255
