"""Flat Background Mask: an object in front of one colour, as picture and mask."""

from comfy_api.latest import io

from ..models.render.keying import Keying, key_flat
from .cameras import number


class Bloom4DFlatBackgroundMask(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DFlatBackgroundMask",
            display_name="Flat Background Mask",
            category="4d/data",
            description="The mask of an object in front of one flat colour, and its colours without the background's share at the edges. For any other background use the host's Remove Background.",
            search_aliases=["keyer", "chroma key", "green screen", "remove white background", "alpha", "matte"],
            inputs=[
                io.Image.Input("image", tooltip="Pictures of objects in front of one colour, whichever; it is read off each picture's border."),
                number("tolerance", 0.03, 0, 1, 0.005, "Colour distance up to which a pixel is background. Raise it for an uneven or noisy backdrop."),
                number("softness", 0.1, 0, 1, 0.005, "Further distance over which opacity rises to 1. 0 cuts hard."),
                io.Int.Input("edge", default=2, min=0, max=32, step=1, tooltip="Width in pixels of edges in which object and background mix: their share is solved for and taken out. 0: no unmixing."),
                io.Boolean.Input("holes", default=True, tooltip="Also clear enclosed areas of the background's colour, such as the hole of a handle. Off: only what is connected with the border, so that a white highlight stays."),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="image", tooltip="The object's own colours, without the background's share at its edges; where the mask is 0 the picture as it was."),
                io.Mask.Output("mask", tooltip="1 inside the object, 0 on the background."),
            ],
        )

    @classmethod
    def execute(cls, image, tolerance, softness, edge, holes):
        keyed = key_flat(image[..., :3].float(), Keying(tolerance, softness, edge, holes))
        return io.NodeOutput(keyed.colours, keyed.opacity)


NODES = [Bloom4DFlatBackgroundMask]
