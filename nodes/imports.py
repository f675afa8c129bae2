"""Load 4D: Gaussians and meshes over time out of files."""

import hashlib
import re
from pathlib import Path

import folder_paths
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..models.formats.glb_reading import read_glb
from ..models.formats.mesh_batch import batch_of
from ..models.gaussians import files
from ..models.gaussians.files import Master
from .exports import AXES, CATEGORY, ENDINGS
from .host import paths
from .host.content import content_of
from .host.meshes import mesh_of, picture_of
from .sockets import GAUSSIANS_4D

PLACES = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}
SPLATS = (".ply", ".spz")
MOST_FILES = 4096
KINDS = f"{ENDINGS['master']}, {ENDINGS['viewer']}, .glb, .ply, .spz, or a folder of .ply or .spz files"


def file_of(place: str, path: str) -> Path:
    """A file or folder below one of the host's folders; ValueError when the name leads out of it."""
    return paths.inside(PLACES[place](), path.strip())


def parts_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself, or the splat files of a folder in the order of the numbers in their names."""
    if not path.is_dir():
        return [path]
    found = [file for file in path.iterdir() if file.suffix.lower() in SPLATS and file.is_file() and not file.name.startswith(".")]
    found = [paths.inside(path, file.name) for file in found]  # a link may lead elsewhere
    return sorted(found, key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)])


def load(path: Path, spz_y_down: bool) -> tuple[Master, str]:
    """What a file or folder holds, and in words what that is; ValueError names it and what is wrong."""
    parts = parts_of(path)
    endings = {part.suffix.lower() for part in parts}
    if path.is_dir() or endings <= set(SPLATS):
        if len(endings) != 1 or len(parts) > MOST_FILES:
            raise ValueError(f'The folder "{paths.shown(path.name)}" holds {len(parts)} splat files of {len(endings)} kinds. One kind and at most {MOST_FILES} files make a sequence.')
        gaussians, note = files.read_splat_files(parts, spz_y_down)
        return Master(gaussians), "; ".join(filter(None, (f"{len(parts)} {endings.pop()[1:].upper()} file{'s' if len(parts) > 1 else ''}", note)))
    try:
        return _load_file(path)
    except ValueError as error:
        clause = str(error).removeprefix(f'"{path.name}" ').removeprefix("is ")
        raise ValueError(f'"{paths.shown(path.name)}" cannot be used: {clause}. Save it again, or load another file.') from None


def _load_file(path: Path) -> tuple[Master, str]:
    name = path.name.lower()
    if name.endswith(".glb"):
        animated = read_glb(path.read_bytes())
        return Master(None, batch_of(animated.frames, picture_of), animated.fps, animated.unlit), "an animated GLB"
    if name.endswith(ENDINGS["viewer"]):
        gaussians, fps = files.read_viewer(path)
        return Master(gaussians, {}, fps), "a viewer file, which is quantised and has no harmonics"
    if name.endswith(".safetensors"):
        return files.read_master(path), "a master file"
    raise ValueError(f"its ending is none that is read ({KINDS})")


def in_words(master: Master, kind: str) -> str:
    """What was found, for people."""
    gaussians, mesh = master.gaussians, master.mesh
    lines = [kind]
    if gaussians is not None:
        lines.append(f"Gaussians: {gaussians.frames} times of {gaussians.count}, harmonics of degree {gaussians.degree}")
    if mesh:
        lines.append(f"mesh: {len(mesh['vertices'])} times, up to {mesh['vertices'].shape[1]} vertices and {mesh['faces'].shape[1]} faces")
    return "\n".join(lines)


def absent(name: str, what: str) -> ExecutionBlocker:
    """The value of an output that a file has nothing for: nodes behind it are told why they can't run."""
    return ExecutionBlocker(f'"{paths.shown(name)}" holds no {what}. Load another file, or disconnect this output of Load 4D.')


class Bloom4DLoad4D(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DLoad4D",
            display_name="Load 4D",
            category=CATEGORY,
            description="Loads Gaussians or meshes over time: what Save 4D wrote, and splat files of other programs (PLY, SPZ, or a folder of them).",
            search_aliases=["import 4d", "import gaussians", "open ply", "open spz", "ply sequence", "point cloud"],
            inputs=[
                io.String.Input("path", default=f"bloom4d/4d_00001_{ENDINGS['master']}", tooltip=f"A file or folder below the folder that is chosen next: {KINDS}."),
                io.Combo.Input("folder", options=list(PLACES), default="output", tooltip="The host's folder that the path begins in."),
                io.Combo.Input("spz_axes", options=list(AXES), default=AXES[0], tooltip="How .spz files are meant. Y up: as the format says. Y down: as ComfyUI's Splat to File3D writes them. Not read for other files."),
            ],
            outputs=[
                GAUSSIANS_4D.Output("gaussians", tooltip="The Gaussians over time; nodes behind it don't run when there are none."),
                io.Mesh.Output("mesh", tooltip="The mesh batch, one per time; nodes behind it don't run when there is none."),
                io.String.Output("found", tooltip="What was in the file."),
                io.Float.Output("fps", tooltip="Times per second as the file says; 12 where it does not."),
                io.Image.Output("metallic_roughness", tooltip="Texture of the mesh: roughness in green, metallic in blue."),
                io.Image.Output("normal_map", tooltip="Normal map of the mesh."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, path, folder="output", **values):
        found = file_of(folder, path)
        parts = parts_of(found) if found.exists() else []
        return hashlib.sha256("".join(f"{part.name}\0{content_of(part)}\n" for part in parts).encode()).hexdigest()

    @classmethod
    def execute(cls, path, folder, spz_axes):
        file = file_of(folder, path)
        if not file.exists() or not parts_of(file):
            raise ValueError(f'There is no 4D file "{paths.shown(path)}" in the {folder} folder. Give the path that Save 4D shows, or one to {KINDS}.')
        master, kind = load(file, spz_axes == AXES[1])
        gaussians = master.gaussians if master.gaussians is not None else absent(file.name, "Gaussians")
        mesh = mesh_of(master.mesh, master.unlit) if master.mesh else absent(file.name, "mesh")
        maps = [master.mesh.get(name, absent(file.name, f"{name.replace('_', ' ')} map")) for name in ("metallic_roughness", "normal")]
        found = in_words(master, kind)
        return io.NodeOutput(gaussians, mesh, found, master.fps, *maps, ui={"text": (found,)})


NODES = [Bloom4DLoad4D]
