"""The tensors of Stable Diffusion's UNet: their names and shapes in ldm files, and their names in diffusers' files.

Derived from the architecture (levels, residual blocks, where there is attention), so that the list holds for the published
networks and for small ones of the same kind.
"""

from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class UNetLayout:
    """An ldm UNet; the defaults are Stable Diffusion 2.1's.

    `attention` says for every level whether its blocks attend; the middle does where `middle` is set. `linear` projects tokens
    by matrices (2.x) in place of 1 x 1 convolutions (1.x).
    """

    width: int = 320
    multiples: tuple[int, ...] = (1, 2, 4, 4)
    attention: tuple[bool, ...] = (True, True, True, False)
    blocks: int = 2
    middle: bool = True
    inputs: int = 4
    outputs: int = 4
    context: int = 1024
    linear: bool = True

    def shapes(self) -> Shapes:
        """Every tensor by its ldm name below the UNet's prefix."""
        return dict(_tensors(self))


STABLE_DIFFUSION_1 = UNetLayout(context=768, linear=False)
STABLE_DIFFUSION_2 = UNetLayout()


def layout_of(shapes: Shapes) -> UNetLayout | None:
    """The layout that a file's tensors (ldm names below the prefix) suggest; None where they are no such UNet.

    A partial file gives a layout that its tensors do not fill, which is how it is found out.
    """
    stem = shapes.get("input_blocks.0.0.weight")
    if stem is None or len(stem) != 4:
        return None
    levels = _levels(shapes, stem[0])
    keys = [name for name in shapes if name.endswith("attn2.to_k.weight")]
    projections = [shape for name, shape in shapes.items() if name.endswith("1.proj_in.weight")]
    return UNetLayout(
        width=stem[0],
        multiples=tuple(multiple for multiple, _, _ in levels),
        attention=tuple(attends for _, _, attends in levels),
        blocks=levels[0][1],
        middle=any(name.startswith("middle_block.") for name in shapes),
        inputs=stem[1],
        outputs=shapes.get("out.2.weight", (4,))[0],
        context=shapes[keys[0]][1] if keys else 0,
        linear=bool(projections) and len(projections[0]) == 2,
    )


def _levels(shapes: Shapes, width: int) -> list[tuple[int, int, bool]]:
    """(multiple of the width, residual blocks, attention) of every level, read off the way down."""
    levels, blocks, multiple, attends = [], 0, 1, False
    for index in range(1, 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("input_blocks."))):
        if f"input_blocks.{index}.0.op.weight" in shapes:
            levels.append((multiple, blocks, attends))
            blocks, attends = 0, False
            continue
        channels = shapes.get(f"input_blocks.{index}.0.out_layers.3.weight", (multiple * width,))[0]
        blocks, multiple = blocks + 1, channels // width
        attends |= f"input_blocks.{index}.1.norm.weight" in shapes
    return [*levels, (multiple, blocks, attends)]


def _tensors(layout: UNetLayout):
    width, embedding = layout.width, 4 * layout.width
    yield from _linear("time_embed.0", width, embedding)
    yield from _linear("time_embed.2", embedding, embedding)
    yield from _convolution("input_blocks.0.0", layout.inputs, width)
    index, channels, skips = 1, width, [width]
    last = len(layout.multiples) - 1
    for level, (multiple, attends) in enumerate(zip(layout.multiples, layout.attention)):
        for _ in range(layout.blocks):
            yield from _residual(f"input_blocks.{index}.0", channels, multiple * width, embedding)
            channels = multiple * width
            yield from _transformer(f"input_blocks.{index}.1", channels, layout) if attends else ()
            skips.append(channels)
            index += 1
        if level < last:
            yield from _convolution(f"input_blocks.{index}.0.op", channels, channels)
            skips.append(channels)
            index += 1
    if layout.middle:
        yield from _residual("middle_block.0", channels, channels, embedding)
        yield from _transformer("middle_block.1", channels, layout)
        yield from _residual("middle_block.2", channels, channels, embedding)
    yield from _way_up(layout, channels, skips)
    yield from _norm("out.0", width)
    yield from _convolution("out.2", width, layout.outputs)


def _way_up(layout: UNetLayout, channels: int, skips: list[int]):
    index, embedding = 0, 4 * layout.width
    for level in reversed(range(len(layout.multiples))):
        for block in range(layout.blocks + 1):
            width = layout.multiples[level] * layout.width
            yield from _residual(f"output_blocks.{index}.0", channels + skips.pop(), width, embedding)
            channels = width
            yield from _transformer(f"output_blocks.{index}.1", channels, layout) if layout.attention[level] else ()
            if level and block == layout.blocks:
                yield from _convolution(f"output_blocks.{index}.{1 + layout.attention[level]}.conv", channels, channels)
            index += 1


def _residual(name: str, before: int, after: int, embedding: int):
    yield from _norm(f"{name}.in_layers.0", before)
    yield from _convolution(f"{name}.in_layers.2", before, after)
    yield from _linear(f"{name}.emb_layers.1", embedding, after)
    yield from _norm(f"{name}.out_layers.0", after)
    yield from _convolution(f"{name}.out_layers.3", after, after)
    if before != after:
        yield from _convolution(f"{name}.skip_connection", before, after, 1)


def _transformer(name: str, channels: int, layout: UNetLayout):
    project = _linear if layout.linear else lambda name, before, after: _convolution(name, before, after, 1)
    yield from _norm(f"{name}.norm", channels)
    yield from project(f"{name}.proj_in", channels, channels)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", channels), ("attn2", layout.context)):
        yield f"{block}.{attention}.to_q.weight", (channels, channels)
        yield f"{block}.{attention}.to_k.weight", (channels, source)
        yield f"{block}.{attention}.to_v.weight", (channels, source)
        yield from _linear(f"{block}.{attention}.to_out.0", channels, channels)
    yield from _linear(f"{block}.ff.net.0.proj", channels, 8 * channels)  # gated: twice the inner width of 4 x
    yield from _linear(f"{block}.ff.net.2", 4 * channels, channels)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _norm(f"{block}.{norm}", channels)
    yield from project(f"{name}.proj_out", channels, channels)


def _linear(name: str, before: int, after: int):
    yield f"{name}.weight", (after, before)
    yield f"{name}.bias", (after,)


def _convolution(name: str, before: int, after: int, size: int = 3):
    yield f"{name}.weight", (after, before, size, size)
    yield f"{name}.bias", (after,)


def _norm(name: str, channels: int):
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)
