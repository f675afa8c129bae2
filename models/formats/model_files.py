"""Weight files that people download for our loaders: which file is meant, its licence, and what is wrong with another one.

Files are known by their tensors' names and shapes, never by their own name. Nothing here reads a file or a folder.
"""

from dataclasses import dataclass

from .diffusers_names import is_diffusers, ldm_names
from .unet_layout import STABLE_DIFFUSION_1, STABLE_DIFFUSION_2, Shapes, UNetLayout, layout_of

SHOWN = 3


@dataclass(frozen=True)
class KnownFile:
    """A file by the name under which its authors publish it, and the node that loads it."""

    title: str
    loader: str
    file: str
    licence: str
    link: str
    purpose: str

    def wanted(self, folder: str) -> str:
        """Where to get it and where to put it, as one sentence for the end of a message."""
        return f"{self.title} is {self.file} ({self.purpose}; licence: {self.licence}) from {self.link}: put it into {folder} and press R."

    def missing(self, name: str, folder: str) -> str:
        """What to do about a file of this kind that a graph names and nobody has, in one line."""
        return f"There is no checkpoint {name}. {self.wanted(folder)}"


MVDREAM = KnownFile("MVDream", "MVDream Loader", "sd-v2.1-base-4view.pt", "CreativeML Open RAIL-M", "https://huggingface.co/MVDream/MVDream", "four views of one object from a prompt")
ZERO123 = KnownFile(
    "Zero123-XL", "Zero123 Loader", "zero123-xl.ckpt", "MIT", "https://zero123.cs.columbia.edu/assets/zero123-xl.ckpt",
    "other views of a pictured object; Stable Zero123 does as well: stable_zero123.ckpt, non-commercial, or stable_zero123_c.ckpt, Stability AI Community License",
)  # fmt: skip

ZERO123_UNET = UNetLayout(inputs=8, context=768, linear=False)
CAMERA = 16
CAMERA_EMBEDDING = ("camera_embed.0.weight", "camera_embed.0.bias", "camera_embed.2.weight", "camera_embed.2.bias")
PROJECTION = ("cc_projection.weight", "cc_projection.bias")
FOREIGN = {
    "to_k_ip": "an image-conditioned variant of MVDream (ImageDream), which is not supported",
    "temp_convs": "a video model: try Zeroscope Loader",
    "transformer_in.": "a video model: try Zeroscope Loader",
    "time_stack.": "a video model: try the host's Image Only Checkpoint Loader",
    "double_blocks.": "a model of another architecture: try the host's Load Diffusion Model",
    "joint_blocks.": "a model of another architecture: try the host's Load Checkpoint",
    "label_emb.": "Stable Diffusion XL or an unCLIP model: try the host's Load Checkpoint",
    "cc_projection.weight": "Zero123: use Zero123 Loader",
    "camera_embed.0.weight": "MVDream: use MVDream Loader",
}
"""What a part of a tensor's name gives away about a file that is none of ours; the first that fits is said."""


def camera_embedding(layout: UNetLayout) -> Shapes:
    """The four tensors that MVDream's UNet has beside Stable Diffusion's."""
    width = 4 * layout.width
    return dict(zip(CAMERA_EMBEDDING, ((width, CAMERA), (width,), (width, width), (width,))))


def projection(layout: UNetLayout) -> Shapes:
    """The two tensors of Zero123 beside its UNet's: an image embedding and four numbers of a pose become one token."""
    return dict(zip(PROJECTION, ((layout.context, layout.context + 4), (layout.context,))))


def unet_prefix(names) -> str | None:
    """What stands before the UNet's tensors in a file of the ldm or diffusers kind; None where there is no UNet."""
    found = [name.removesuffix("input_blocks.0.0.weight") for name in names if name.endswith("input_blocks.0.0.weight")]
    found += [stem for name in names if name.endswith("conv_in.weight") and f"{(stem := name.removesuffix('conv_in.weight'))}time_embedding.linear_1.weight" in names]
    return min((prefix for prefix in found if "control" not in prefix), key=len, default=None)


def unet_names(names) -> dict[str, str]:
    """{name in the file: ldm name} of the UNet's tensors, empty where there is none; EMA copies and other parts are left out."""
    prefix = unet_prefix(names)
    if prefix is None:
        return {}
    below = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    if not prefix:
        below = [name for name in below if not name.startswith(("first_stage_model.", "cond_stage_model.", "vae.", "text_encoder.", "model_ema.", "cc_projection."))]
    renamed = ldm_names(below) if is_diffusers(set(below)) else {name: name for name in below}
    return {prefix + name: ldm for name, ldm in renamed.items()}


def check_unet(file: str, shapes: Shapes, known: KnownFile, extra, folder: str, references=(STABLE_DIFFUSION_2, STABLE_DIFFUSION_1, ZERO123_UNET)) -> UNetLayout:
    """The layout of a UNet whose tensors `shapes` (ldm names) are whole; ValueError in one line that says what is wrong.

    `extra(layout)` gives the tensors that this kind has beside Stable Diffusion's. A file whose own layout it does not fill is
    measured against whichever of that and the published ones, `references`, is nearest.
    """
    candidates = [layout for layout in (layout_of(shapes), *references) if layout]
    layout = min(candidates, key=lambda candidate: _difference(shapes, _expected(candidate, extra)))
    expected = _expected(layout, extra)
    missing = [name for name in expected if name not in shapes]
    further = [name for name in shapes if name not in expected]
    wrong = [name for name in expected if name in shapes and tuple(shapes[name]) != expected[name]]
    wanted = known.wanted(folder)
    if not missing and not further and not wrong:
        return layout
    if len(missing) > len(expected) // 2:
        raise ValueError(f"{file} {kind_of(shapes)}. {wanted}")
    if missing and all(name in extra(layout) for name in missing):
        raise ValueError(f"{file} is Stable Diffusion or a model of its kind, not {known.title}: {_listed(missing, 'tensor')} missing. Use the host's Load Checkpoint for it. {wanted}")
    if missing:
        raise ValueError(f"{file} is not the whole of {known.title}: of its {len(expected)} UNet tensors {_listed(missing, '')} missing. Copy or download it again. {wanted}")
    if further:
        raise ValueError(f"{file} {kind_of({name: () for name in further})}: {_listed(further, 'UNet tensor')} not part of {known.title}. {wanted}")
    name = wrong[0]
    raise ValueError(f"{file} is no {known.title}: {name} is {_size(shapes[name])}, and {_size(expected[name])} is needed. {wanted}")


def _difference(shapes: Shapes, expected: Shapes) -> int:
    return len(shapes.keys() ^ expected.keys()) + sum(tuple(shapes[name]) != expected[name] for name in shapes.keys() & expected.keys())


def _expected(layout: UNetLayout, extra) -> Shapes:
    return layout.shapes() | extra(layout)


def foreign_kind(names, known: KnownFile) -> str | None:
    """What a file is whose tensors' names give away that it is not `known`; None where nothing does."""
    return next((meaning for part, meaning in FOREIGN.items() if known.loader not in meaning and any(part in name for name in names)), None)


def kind_of(names) -> str:
    """What the tensors' names of a file that is not wanted give away about it, for the middle of a message."""
    meanings = (meaning for part, meaning in FOREIGN.items() if any(part in name for name in names))
    return f"is {meaning}" if (meaning := next(meanings, None)) else "holds no diffusion UNet of a kind that is known here"


def check_vision(file: str, names, known: KnownFile, folder: str, layers: int = 24):
    """ValueError unless `names`, in OpenAI's layout, are a whole CLIP image encoder: the host would fill what is missing with anything."""
    block = ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias",
             "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")  # fmt: skip
    expected = ["class_embedding", "positional_embedding", "proj", "conv1.weight", "ln_pre.weight", "ln_pre.bias", "ln_post.weight", "ln_post.bias"]
    expected += [f"transformer.resblocks.{layer}.{part}" for layer in range(layers) for part in block]
    if missing := [name for name in expected if name not in set(names)]:
        raise ValueError(f"{file} is not the whole of {known.title}: of the {len(expected)} tensors of its image encoder {_listed(missing, '')} missing. Copy or download it again. {known.wanted(folder)}")


def _listed(names: list[str], noun: str) -> str:
    shown = ", ".join(names[:SHOWN])
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    counted = f"{len(names)} {noun}{'s' if noun and len(names) > 1 else ''}".strip()
    return f"{counted} ({shown}{rest}) {'is' if len(names) == 1 else 'are'}"


def _size(shape) -> str:
    return " x ".join(map(str, shape))
