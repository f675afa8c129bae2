"""Draw the pictures of the help pages: `.venv/bin/python tools/picture_help.py [NodeId ...]`, after a change of what nodes show.

Writes web/docs/NodeId.jpg from what the nodes themselves return, on the CPU, and a few from committed results of the demo
(docs/, workflows/). COMFYUI_PATH names another host.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), os.environ.get("COMFYUI_PATH", str(ROOT / ".host"))]
FOLDER = ROOT / "web" / "docs"
MOST = 60_000  # bytes of one picture: users download them with the pack

import compat  # noqa: E402
import help_drawing as drawing  # noqa: E402
import pack  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402


def load_nodes() -> dict:
    """Node id -> class, in a process without a server."""
    arguments, sys.argv = sys.argv, [sys.argv[0], "--cpu"]
    if compat.needed():
        compat.apply()
    pack.load_pack()
    import comfy.options

    comfy.options.enable_args_parsing()
    sys.path.append(str(ROOT / "tests" / "guards"))
    import node_infos

    classes = {node.GET_SCHEMA().node_id: node for node in node_infos.node_classes()}  # imports the host, which reads sys.argv
    sys.argv = arguments
    return classes


class Nodes:
    """Runs nodes with their default values: `nodes("ToyMotion", seed=3)` returns what the node returns."""

    def __init__(self, classes: dict):
        self.classes = classes

    def __call__(self, name: str, **values):
        node = self.classes[f"Bloom4D{name}"]
        required = node.GET_NODE_INFO_V1()["input"]["required"]
        return node.execute(**{key: start(*entry) for key, entry in required.items() if start(*entry) is not None} | values).result


def start(kind, options=None):
    """The value that a widget begins with; None for sockets and inputs made of others."""
    options = options or {}
    if kind in ("COMBO", "INT", "FLOAT", "BOOLEAN", "STRING"):
        return options.get("default", options["options"][0] if kind == "COMBO" else None)
    return options.get("default") if kind == "COLOR" else None


def toy_motion(nodes):
    from bloom4d.models.data.toy_motion import KINDS

    rows = [(kind, nodes("ToyMotion", motion=kind, seed=7, times=9, size=16, bands=kind in ("spin", "twist"))[0]) for kind in KINDS]
    return drawing.strips([(kind, shown(nodes, moving, 5, distance=2.5, path={"path": "together", "time_start": 0.0, "time_end": 0.75})[0]) for kind, moving in rows])


def procedural_object(nodes):
    from bloom4d.models.data.styles import PHENOMENA

    return drawing.strips([(name, nodes("Procedural4DObject", phenomenon=name, times=4, size=160, seed=2)[0]) for name in PHENOMENA])


def walker(nodes, **changes):
    """The Gaussians that the pictures of Gaussian nodes show."""
    return nodes("ToyMotion", **{"motion": "walk", "parts": 40, "bands": True, "seed": 0, "times": 17, "size": 16, **changes})[0]


def shown(nodes, gaussians, frames=5, **changes):
    """Pictures of Gaussians from the front, all times; or as changed."""
    values = {"path": {"path": "together", "time_start": 0.0, "time_end": 1.0}, "frames": frames, "turns": 0.0, "width": 128, "height": 128, "distance": 2.5, **changes}
    return nodes("RenderGaussians", gaussians=gaussians, **values)


def render_gaussians(nodes):
    moving, ends = walker(nodes), {"time_start": 0.0, "time_end": 1.0}
    paths = {"together: around and through time": {"path": "together", **ends}, "frozen at 0.25": {"path": "frozen", "time": 0.25},
             "ping-pong, one cycle": {"path": "ping-pong", **ends, "cycles": 1.0}, "free orbit: time runs twice": {"path": "free orbit", **ends, "cycles": 2.0}}
    rows = [(name, shown(nodes, moving, path=path, turns=1.0)[0]) for name, path in paths.items()]
    _, _, depth, flow = shown(nodes, moving, path={"path": "together", "time_start": 0.0, "time_end": 0.8})
    return drawing.strips([*rows, ("depth", depth), ("flow: hue is the direction", flow)])


def changed(nodes, name, moving, rows: dict, **camera) -> Image.Image:
    """One row per choice of values of a node that changes Gaussians, the first of them unchanged."""
    return drawing.strips([("before", shown(nodes, moving, **camera)[0]), *((label, shown(nodes, nodes(name, gaussians=moving, **values)[0], **camera)[0]) for label, values in rows.items())])


def trim(nodes):
    box = {"box": "box", "x_min": -1.0, "x_max": 1.0, "y_min": 0.0, "y_max": 1.0, "z_min": -1.0, "z_max": 1.0}
    return changed(nodes, "TrimGaussians", walker(nodes, motion="swing"), {"box: y_min 0": {"box": box}, "time_end 0.25": {"box": {"box": "none"}, "time_end": 0.25}})


def retime(nodes):
    rows = {"speed 2, end loop": {"speed": 2.0, "end": "loop"}, "reverse, speed 0.5": {"reverse": True, "speed": 0.5}}
    return changed(nodes, "RetimeGaussians", walker(nodes, motion="fold"), rows)


def transform(nodes):
    rows = {"scale 0.5": {"scale": 0.5}, "rotate_z 45": {"rotate_z": 45.0}, "translate_x 0.4": {"translate_x": 0.4}, "fit": {"fit": True}}
    return changed(nodes, "TransformGaussians", walker(nodes), rows, distance=3.0)


def merge(nodes):
    clouds = [nodes("TransformGaussians", gaussians=walker(nodes, motion=motion, seed=seed), scale=0.8, translate_x=place)[0]
              for motion, seed, place in (("walk", 0, -0.4), ("twist", 8, 0.4))]
    both, = nodes("MergeGaussians", clouds={f"cloud{index}": cloud for index, cloud in enumerate(clouds)})
    return drawing.strips([(name, shown(nodes, cloud)[0]) for name, cloud in (("first", clouds[0]), ("second", clouds[1]), ("merged", both))])


def splat_renderer(nodes):
    from bloom4d.models.geometry.cameras import CameraPath
    from bloom4d.models.render.splats import render_gaussians

    crowd = walker(nodes, motion="static", parts=3000, bands=False)
    rows = []
    for dilation in (0.0, 0.3, 3.0):
        settings = nodes("SplatRenderer", dilation=dilation)[0].config
        clip = render_gaussians(crowd, CameraPath(frames=3, turns=0.3, distance=2.2).cameras(), 48, 48, settings)
        large = torch.nn.functional.interpolate(clip.over(torch.ones(3)).movedim(-1, 1), scale_factor=3, mode="nearest").movedim(1, -1)
        rows.append((f"dilation {dilation:g}, at 48 pixels", large))
    return drawing.strips(rows)


def camera_path(nodes):
    kinds = {"orbit and time": {}, "frozen at time 0.5": {"time_start": 0.5, "time_end": 0.5}, "turns 0: time alone": {"turns": 0.0}, "turns -0.5": {"turns": -0.5}}
    cells = []
    for name, values in kinds.items():
        cameras = nodes("CameraPath", frames=16, **values)[0].cameras()
        cells.append((name, drawing.plan(cameras.camera_to_world, cameras.times.tolist())))
    return drawing.grid(cells)


def camera_sampler(nodes):
    kinds = {"ring, 4 views": {}, "independent": {"spacing": "independent"}, "1 view, near to far": {"views": 1, "distance_min": 2.2, "distance_max": 3.4},
             "azimuth -45 to 45": {"azimuth_min": -45.0, "azimuth_max": 45.0}}
    cells = []
    for name, values in kinds.items():
        cameras = nodes("CameraSampler", **values)[0].sample(torch.Generator().manual_seed(4), 3)
        shares = [scene / 2 for scene in range(3) for _ in range(len(cameras) // 3)]
        cells.append((name, drawing.plan(cameras.camera_to_world, shares)))
    return drawing.grid(cells)


def flat_background(nodes):
    """A soft object in front of grey, its mask, and its own colours in front of a chequered ground."""
    rows = []
    for colour, words in ((0.55, "in front of grey"), (1.0, "in front of white")):
        white, opacity, *_ = nodes("Procedural4DObject", phenomenon="candle burning", times=4, size=160, seed=2)
        picture = white - (1.0 - colour) * (1.0 - opacity[..., None])
        colours, mask = nodes("FlatBackgroundMask", image=picture)
        tiles = (torch.arange(160) // 20 % 2)[:, None] ^ (torch.arange(160) // 20 % 2)
        behind = (0.75 + 0.2 * tiles)[..., None]
        rows.append((words, torch.stack([picture[1], mask[1, ..., None].expand_as(picture[1]), colours[1] * mask[1, ..., None] + behind * (1.0 - mask[1, ..., None])])))
    return drawing.strips([(f"{words}, mask, cut out", pictures) for words, pictures in rows])


def committed(path: str, side: int, part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)):
    """A result that is kept in the repository, smaller; `part`: left, top, right and lower end of what is shown, as shares."""
    def picture(nodes):
        whole = Image.open(ROOT / path).convert("RGB")
        whole = whole.crop([round(share * length) for share, length in zip(part, whole.size * 2)])
        whole.thumbnail((side, side), Image.LANCZOS)
        return whole

    return picture


VIEWS = (0.0, 0.0, 1.0, 0.66)  # of a sheet of results, without the real object beneath
PICTURES = {
    "ToyMotion": toy_motion,
    "Procedural4DObject": procedural_object,
    "RenderGaussians": render_gaussians,
    "TrimGaussians": trim,
    "RetimeGaussians": retime,
    "TransformGaussians": transform,
    "MergeGaussians": merge,
    "SplatRenderer": splat_renderer,
    "CameraPath": camera_path,
    "CameraSampler": camera_sampler,
    "HybridSDSOptimizer": committed("docs/text_to_4d_flower_blooming.png", 560, VIEWS),
    "FlatBackgroundMask": flat_background,
    "DeformableField": committed("docs/reanimate_ice_cream_melting.png", 560, VIEWS),
    "ReferenceViewLoss": committed("docs/image_to_4d_ice_cream_melting.png", 560, (0.0, 0.0, 1.0, 0.3)),
    "HashField": committed("docs/text_to_4d_candle_burning.png", 560, VIEWS),
    "Metrics": committed("workflows/four_d_metrics_demo.jpg", 480),
    "GaussiansFromOrbitVideo": committed("workflows/orbit_video_to_4d_gaussians_demo.jpg", 440),
    "Save4D": committed("docs/browser_glb_preview3d.png", 440, (0.627, 0.075, 0.963, 0.91)),
    "Preview4D": committed("docs/browser_viewer_nodes2.png", 440, (0.335, 0.0, 0.665, 0.495)),
    "EmbeddedPriorLoader": committed("workflows/embedded_prior_sampling_demo.jpg", 400),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PICTURES), help=f"without Bloom4D (default all: {', '.join(PICTURES)})")
    options = parser.parse_args()
    nodes = Nodes(load_nodes())
    for name in options.names:
        with torch.inference_mode():
            picture = PICTURES[name](nodes)
        path = FOLDER / f"Bloom4D{name}.jpg"
        print(path.relative_to(ROOT), picture.size, drawing.save(picture, path, MOST))
    return 0


if __name__ == "__main__":
    sys.exit(main())
