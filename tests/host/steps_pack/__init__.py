"""A node pack for tests of the launcher: a node that takes its time, shows progress and can fail, and one that has scores."""

import time

import comfy.model_management
import torch
from comfy_api.latest import ComfyAPISync, ComfyExtension, io
from server import PromptServer


class Steps(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestSteps",
            inputs=[io.Int.Input("steps", min=1, max=10000), io.Float.Input("seconds", min=0.0, max=10.0, step=0.001),
                    io.Int.Input("fail_at", min=-1, max=10000)],
            outputs=[io.Image.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, steps, seconds, fail_at):
        picture = torch.zeros(1, 8, 8, 3)
        for step in range(steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            if step == fail_at:
                raise ValueError("the field has no colour: connect a field that has one.\nmore lines")
            ComfyAPISync().execution.set_progress(step + 1, steps, preview_image=picture)
            PromptServer.instance.send_progress_text(f"loss {1 / (step + 1):.3f}", cls.hidden.unique_id)
            time.sleep(seconds)
        return io.NodeOutput(picture)


class Scores(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TestScores", inputs=[io.Float.Input("value", min=-1000.0, max=1000.0, step=0.001)], is_output_node=True)

    @classmethod
    def execute(cls, value):
        return io.NodeOutput(ui={"scores": ({"label": "test", "values": {"twice": 2 * value, "no number": float("nan")}},)})


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [Steps, Scores]


async def comfy_entrypoint():
    return Extension()
