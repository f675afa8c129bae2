"""Bloom4D: dynamic 3D objects in ComfyUI. The host reads `WEB_DIRECTORY` and `comfy_entrypoint`; nothing else lives here."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes.extension import Bloom4DExtension  # late, so that `models` can be imported without ComfyUI

    return Bloom4DExtension()
