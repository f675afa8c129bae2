"""Finished Gaussians cut, retimed, moved, merged, and taken at one instant."""

from comfy_api.latest import io

from ..models.gaussians import tools
from ..models.gaussians.checks import check
from ..models.gaussians.gaussians import Gaussians4D
from .cameras import number
from .field import option_of
from .host.estimates import need_memory
from .sockets import GAUSSIANS_4D

CATEGORY = "4d/gaussians"
BOXES = ("none", "box")
MOST = 32  # clouds that are merged


def gaussians_input(tooltip: str) -> io.Input:
    return GAUSSIANS_4D.Input("gaussians", tooltip=tooltip)


def gaussians_output(tooltip: str) -> io.Output:
    return GAUSSIANS_4D.Output("gaussians_out", display_name="gaussians", tooltip=tooltip)


def size_at(gaussians: Gaussians4D, frames: int) -> int:
    """Bytes of the Gaussians at `frames` times: attributes that never change are kept once."""
    values = gaussians.attributes().values()
    return sum(value[0].numel() * value.element_size() * (frames if value.shape[0] > 1 else 1) for value in values)


def need_frames(clouds: list[Gaussians4D], frames: int) -> None:
    """ValueError with numbers unless all clouds at `frames` times fit into memory."""
    what = f"{sum(cloud.count for cloud in clouds):,} Gaussians at {frames} times take"
    need_memory(sum(size_at(cloud, frames) for cloud in clouds), what, "Ask for fewer frames, or remove Gaussians with Trim Gaussians.")


def checked(gaussians: Gaussians4D, frames: int = 0) -> Gaussians4D:
    """The Gaussians, if they are sound and fit into memory at `frames` times (0: nothing is made at other times)."""
    if frames:
        need_frames([gaussians], frames)
    check(gaussians)
    return gaussians


class Bloom4DTrimGaussians(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        corners = [(f"{axis}_{end}", limit) for end, limit in (("min", -1.0), ("max", 1.0)) for axis in "xyz"]
        sides = [number(name, limit, -1000, 1000, 0.01, f"The box's {name[2:]}imum along {name[0]}; y is up, the object's front faces +z.") for name, limit in corners]
        return io.Schema(
            node_id="Bloom4DTrimGaussians",
            display_name="Trim Gaussians",
            category=CATEGORY,
            description="Cuts the time range, and removes Gaussians that are faint, huge, outside a box, or not finite.",
            search_aliases=["crop splat", "remove floaters", "cut", "clean gaussians"],
            inputs=[
                gaussians_input("What to trim; broken and exploded clouds are welcome here."),
                number("time_start", 0, 0, 1, 0.01, "Begin of the part that stays; it is stretched over the whole range from 0 to 1."),
                number("time_end", 1, 0, 1, 0.01, "End of the part that stays. Equal to time_start: that instant only."),
                number("opacity", 0, 0, 1, 0.001, "Gaussians that never get this opaque are removed. 0.02 removes what nobody sees."),
                number("longest", 0, 0, 1000, 0.001, "Gaussians whose longest standard deviation ever exceeds this are removed; 0 keeps all. Against long spikes and fog."),
                io.DynamicCombo.Input(
                    "box",
                    options=[io.DynamicCombo.Option(BOXES[0], []), io.DynamicCombo.Option(BOXES[1], sides)],
                    tooltip="box: nothing is seen outside it. A Gaussian that passes through is invisible while it is outside.",
                ),
            ],
            outputs=[gaussians_output("What is left.")],
        )

    @classmethod
    def execute(cls, gaussians, time_start, time_end, opacity, longest, box=None):
        box = option_of("box", box, BOXES)
        corners = tuple(tuple(box[f"{axis}_{end}"] for axis in "xyz") for end in ("min", "max")) if box["box"] == "box" else None
        trimming = tools.Trimming(opacity, longest, corners)
        if gaussians.count == 0:
            check(gaussians)
        cut = gaussians if (time_start, time_end) == (0, 1) else tools.cut_time(gaussians, time_start, time_end)
        return io.NodeOutput(tools.trim(cut, trimming))


class Bloom4DRetimeGaussians(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DRetimeGaussians",
            display_name="Retime Gaussians",
            category=CATEGORY,
            description="Plays the motion faster, slower, backwards, over and over, or back and forth, at any number of frames.",
            search_aliases=["speed", "reverse", "ping-pong", "loop", "interpolate frames", "slow motion"],
            inputs=[
                gaussians_input("What to retime."),
                io.Int.Input("frames", default=0, min=0, max=1024, step=1, tooltip="Frames of the result, evenly over time, interpolated between the present ones; 0: as many as now."),
                number("speed", 1, 0.01, 100, 0.01, "How fast it runs: 2 reaches the end half-way, 0.5 shows the first half only."),
                io.Boolean.Input("reverse", default=False, tooltip="Begin at the end and run backwards."),
                io.Combo.Input("end", options=list(tools.ENDS), default="hold", tooltip="What follows where the motion ends before the clip: hold the last frame, begin again, or run back and forth."),
            ],
            outputs=[gaussians_output("The same Gaussians along another course of time.")],
        )

    @classmethod
    def execute(cls, gaussians, frames, speed, reverse, end):
        pace = tools.Pace(speed, reverse, end, frames)
        return io.NodeOutput(tools.retime(checked(gaussians, frames or gaussians.frames), pace))


class Bloom4DTransformGaussians(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        axes = [f"{what}_{axis}" for what in ("rotate", "translate") for axis in "xyz"]
        limits = {"rotate": (-360, 360, 0.5, "Turn about the world's {} axis in degrees; first x, then y, then z."), "translate": (-1000, 1000, 0.01, "Move along {} after turning.")}
        parts = [(name, *limits[name[:-2]]) for name in axes]
        return io.Schema(
            node_id="Bloom4DTransformGaussians",
            display_name="Transform Gaussians",
            category=CATEGORY,
            description="Scales, turns and moves all times of the Gaussians, about the world's origin; colours that depend on the side turn with them.",
            search_aliases=["rotate splat", "scale splat", "move splat", "normalise", "fit"],
            inputs=[
                gaussians_input("What to transform."),
                io.Boolean.Input("fit", default=False, tooltip="First move and scale the object so that it fills the unit ball over all times, where our cameras look."),
                number("scale", 1, 0.001, 1000, 0.001, "Size; 2 is twice as large."),
                *(number(name, 0, low, high, step, text.format(name[-1])) for name, low, high, step, text in parts),
            ],
            outputs=[gaussians_output("The transformed Gaussians.")],
        )

    @classmethod
    def execute(cls, gaussians, fit, scale, **values):
        turn, move = (tuple(values[f"{what}_{axis}"] for axis in "xyz") for what in ("rotate", "translate"))
        return io.NodeOutput(tools.place(checked(gaussians), tools.Placement(scale, turn, move, fit)))


class Bloom4DMergeGaussians(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        clouds = io.Autogrow.TemplatePrefix(GAUSSIANS_4D.Input("cloud", tooltip="Gaussians to merge."), prefix="cloud", min=1, max=MOST)
        return io.Schema(
            node_id="Bloom4DMergeGaussians",
            display_name="Merge Gaussians",
            category=CATEGORY,
            description="Several clouds of Gaussians as one scene. Place each with Transform Gaussians first.",
            search_aliases=["join", "combine splats", "concatenate", "scene"],
            inputs=[
                io.Autogrow.Input("clouds", template=clouds, tooltip="The clouds; a new socket appears with every connection."),
                io.Int.Input("frames", default=0, min=0, max=1024, step=1, tooltip="Frames of the result, evenly over time. 0: every time that one of the clouds has, which loses nothing."),
            ],
            outputs=[gaussians_output("All of them, the first cloud's Gaussians first.")],
        )

    @classmethod
    def execute(cls, clouds, frames):
        chosen = [clouds[key] for key in sorted(clouds, key=lambda key: int(key.removeprefix("cloud")))]
        if not chosen:
            raise ValueError("There is nothing to merge. Connect the clouds of Gaussians.")
        need_frames(chosen, frames or sum(cloud.frames for cloud in chosen))
        for cloud in chosen:
            check(cloud)
        return io.NodeOutput(tools.merge(chosen, frames))


class Bloom4DPickTime(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DPickTime",
            display_name="Pick Time",
            category=CATEGORY,
            description="The Gaussians at one instant, as a cloud that stands still. With Gaussians to Splat: a single splat for nodes that take no time, such as the host's exporters.",
            search_aliases=["freeze frame", "single splat", "instant", "select frame"],
            inputs=[
                gaussians_input("What moves."),
                number("time", 0.5, 0, 1, 0.001, "The instant: 0 is the begin, 1 the end; between two frames it is interpolated."),
            ],
            outputs=[gaussians_output("One frame.")],
        )

    @classmethod
    def execute(cls, gaussians, time):
        return io.NodeOutput(tools.pick_time(checked(gaussians), time))


NODES = [Bloom4DTrimGaussians, Bloom4DRetimeGaussians, Bloom4DTransformGaussians, Bloom4DMergeGaussians, Bloom4DPickTime]
