"""Gaussians over time from and to the host's SPLAT, and as pictures."""

from comfy_api.latest import Types, io

from ..models.gaussians.batches import from_batch, to_batch
from ..models.gaussians.tools import resampled
from .gaussian_tools import CATEGORY, checked, gaussians_input
from .host.estimates import need_memory
from .sockets import GAUSSIANS_4D

BATCH_NAMES = ("positions", "scales", "rotations", "opacities", "sh")


class Bloom4DGaussiansToSplat(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DGaussiansToSplat",
            display_name="Gaussians to Splat",
            category=CATEGORY,
            description="Gaussians over time as a SPLAT batch with one item per time, for every splat node of the host: Render Splat, Splat to Mesh, the savers.",
            search_aliases=["bake", "field bake", "export splat", "splat batch"],
            inputs=[
                gaussians_input("What to turn into splats."),
                io.Int.Input("frames", default=0, min=0, max=1024, step=1, tooltip="Times, evenly from begin to end, interpolated between the present ones; 0: the present ones."),
            ],
            outputs=[io.Splat.Output("splat", tooltip="One splat per time. Nodes that take a single one use the first: choose an instant with Pick Time before.")],
        )

    @classmethod
    def execute(cls, gaussians, frames):
        return io.NodeOutput(Types.SPLAT(**to_batch(resampled(checked(gaussians, frames or gaussians.frames), frames))))


class Bloom4DSplatToGaussians(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DSplatToGaussians",
            display_name="Splat to Gaussians",
            category=CATEGORY,
            description="A SPLAT batch as Gaussians over time: the items are the times, and the n-th Gaussian of each item is the same one.",
            search_aliases=["import splat", "splat sequence", "batch to gaussians"],
            inputs=[io.Splat.Input("splat", tooltip="One item per time, or a single splat that stands still. Items of different length are welcome: a Gaussian that an item lacks fades out there.")],
            outputs=[GAUSSIANS_4D.Output("gaussians", tooltip="For the viewer, the savers, Render Gaussians and the tools. Foreign objects of another size: Transform Gaussians with fit.")],
        )

    @classmethod
    def execute(cls, splat):
        batch = {name: getattr(splat, name) for name in BATCH_NAMES}
        frames, most = splat.positions.shape[:2]
        what = f"{most:,} Gaussians in {frames} item{'s' * (frames != 1)} take"
        need_memory(4 * sum(value.numel() for value in batch.values()), what, "Give fewer items, or splats of fewer Gaussians.")
        return io.NodeOutput(checked(from_batch(batch, splat.counts)))


NODES = [Bloom4DGaussiansToSplat, Bloom4DSplatToGaussians]
