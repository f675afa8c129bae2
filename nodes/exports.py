"""Save 4D: Gaussians and meshes over time as files that other programs open."""

from collections.abc import Callable

import comfy.model_management
import comfy.utils
from comfy_api.latest import Types, io
from comfy_execution.graph_utils import ExecutionBlocker

from ..models.formats import glb_reading
from ..models.formats.glb_animation import MODES, animated_glb, chosen_mode
from ..models.formats.mesh_batch import frames_of
from ..models.formats.provenance import KEY
from ..models.gaussians import files
from ..models.gaussians.files import Master
from .cameras import number
from .host import provenance
from .host.meshes import png_of, tensors_of
from .host.saving import Save, below_output, entry, in_words, together
from .sockets import GAUSSIANS_4D

CATEGORY = "4d/files"
AXES = ("Y up", "Y down")
ENDINGS = {"master": ".bloom4d.safetensors", "viewer": ".viewer.safetensors", "glb": ".glb"}
NEEDS = {"master": ("Gaussians", "mesh"), "viewer": ("Gaussians",), "ply": ("Gaussians",), "spz": ("Gaussians",), "glb": ("mesh",)}  # one of them
LARGEST_VIEWER = 512 << 20  # bytes: what a browser hands to a graphics card without trouble


class Saver:
    """The formats of one save. Every writer of the host takes a single time and keeps it in memory, and none of them has a way
    to say what made the file in a .ply, harmonics in an .spz, or animation and lit materials in a .glb: so all are ours."""

    def __init__(self, master: Master, glb_mode: str, spz_axes: str, origin):
        self.master, self.glb_mode, self.spz_axes, self.origin = master, glb_mode, spz_axes, origin
        self.gaussians, self.frames = master.gaussians, frames_of(master.mesh, png_of) if master.mesh else []

    def missing(self, name: str) -> str:
        """What a format lacks to be written, in words; empty text when nothing."""
        there = {"Gaussians": self.gaussians is not None, "mesh": bool(self.frames)}
        needed = NEEDS[name]
        return "" if any(there[kind] for kind in needed) else f"no {' and no '.join(needed)} connected"

    def sizes(self) -> dict[str, int]:
        """Bytes that each format takes at most."""
        mesh = sum(value.numel() * value.element_size() for value in self.master.mesh.values())
        drawn = sum(len(png) for frame in self.frames for png in frame.maps.values())
        shape = sum(64 * len(frame.vertices) + 4 * frame.faces.size for frame in self.frames)  # position, directions, colour and uv at most
        splats = files.sizes(self.gaussians) if self.gaussians is not None else {"master": 64 << 10}
        return {**splats, "master": splats["master"] + mesh, "glb": shape + drawn + (64 << 10)}

    def write(self, name: str, save: Save, progress: Callable[[], None]) -> None:
        """One format into a save."""
        if name in ("ply", "spz"):
            self._write_times(name, save, progress)
            return
        if name == "master":
            files.write_master(save.path(ENDINGS[name]), self.master, self.origin)
        elif name == "viewer":
            save.write(ENDINGS[name], files.viewer_bytes(self.gaussians, self.master.fps, self.origin.metadata({})))
        else:
            save.write(ENDINGS[name], self._glb())
        progress()

    def _write_times(self, name: str, save: Save, progress: Callable[[], None]) -> None:
        comments = {KEY: self.origin.metadata({})[KEY], **self.origin.texts} if self.origin.mark else {}
        for index in range(self.gaussians.frames):
            data = files.ply_bytes(self.gaussians, index, comments) if name == "ply" else files.spz_bytes(self.gaussians, index, self.spz_axes == AXES[1])
            save.write(f"{name}/frame_{index:04}.{name}", data)
            progress()

    def _glb(self) -> bytes:
        about = glb_reading.describe(chosen_mode(self.frames, self.glb_mode), len(self.frames), self.master.fps)
        return animated_glb(self.frames, self.master.fps, self.glb_mode, self.master.unlit, self.origin.metadata(about))

    def steps(self, names: list[str]) -> int:
        """Calls of `progress` in all."""
        return sum(self.gaussians.frames if name in ("ply", "spz") else 1 for name in names)


def refuse_large_viewer(wanted: list[str], sizes: dict[str, int]) -> None:
    """ValueError with numbers for a viewer file that no browser would take."""
    if "viewer" in wanted and sizes["viewer"] > LARGEST_VIEWER:
        raise ValueError(f"The viewer file would have {in_words(sizes['viewer'])}, and browsers take about {in_words(LARGEST_VIEWER)}. Save fewer times or Gaussians, or switch viewer off.")


def refuse_broken(master: Master) -> None:
    """ValueError for Gaussians that no program could show."""
    if master.gaussians is not None and (problem := files.gaussians_problem(master.gaussians)):
        raise ValueError(f"The Gaussians cannot be saved: {problem}. Look at the node that made them; nothing was written.")


class Bloom4DSave4D(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        switch = io.Boolean.Input
        return io.Schema(
            node_id="Bloom4DSave4D",
            display_name="Save 4D",
            category=CATEGORY,
            description="Saves Gaussians and meshes over time: a lossless master, PLY and SPZ sequences, an animated GLB, and the viewer's compact file. All at once or none.",
            search_aliases=["export 4d", "export gaussians", "animated glb", "ply sequence", "spz", "save mesh animation"],
            is_output_node=True,
            inputs=[
                io.String.Input("filename_prefix", default="bloom4d/4d", tooltip="Path and name below the output folder; a number is added, the same for every file of one save."),
                switch("master", default=True, tooltip=".bloom4d.safetensors: every number as it is, Gaussians and mesh. Load 4D reads it."),
                switch("ply", default=True, tooltip="A folder of 3DGS files frame_0000.ply, frame_0001.ply, ...: SuperSplat, Blender add-ons and engines import it as a sequence."),
                switch("spz", default=False, tooltip="A folder of .spz files, a tenth of PLY, quantised. The format has no place to say what made it."),
                switch("glb", default=True, tooltip="The mesh as one animated .glb, for Blender, engines, browsers and Preview 3D & Animation."),
                switch("viewer", default=False, tooltip="The compact file that Preview 4D plays, quantised, without harmonics."),
                number("fps", 12.0, 0.1, 240, 0.1, "Times per second in the GLB, the master and the viewer file."),
                io.Combo.Input("glb_mode", options=list(MODES), default=MODES[0], tooltip="morph: smooth morph targets, for a mesh whose faces stay. stepped: one mesh per time. auto: morph where faces, colours and textures stay."),
                io.Combo.Input("spz_axes", options=list(AXES), default=AXES[0], tooltip="Y up: as the format says, for SuperSplat and other viewers. Y down: as ComfyUI's own viewer and nodes take it."),
                GAUSSIANS_4D.Input("gaussians", optional=True, tooltip="For every format but glb."),
                io.Mesh.Input("mesh", optional=True, tooltip="A mesh batch, one per time: for master and glb."),
                io.Image.Input("metallic_roughness", optional=True, tooltip="Texture of the mesh, one or one per time: roughness in green, metallic in blue. Needs uvs; makes the mesh lit."),
                io.Image.Input("normal_map", optional=True, tooltip="Normal map of the mesh in its tangent space, one or one per time. Needs uvs; makes the mesh lit."),
            ],
            outputs=[
                io.String.Output("path", tooltip="What Load 4D takes: the first of master, viewer file, PLY folder, SPZ folder, GLB that was written, relative to the output folder."),
                io.File3DGLB.Output("glb", tooltip="The animated GLB, for Preview 3D & Animation."),
                io.String.Output("report", tooltip="Every file or folder with its size, and what was left out."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, filename_prefix, master, ply, spz, glb, viewer, fps, glb_mode, spz_axes, gaussians=None, mesh=None, metallic_roughness=None, normal_map=None):
        tensors = tensors_of(mesh, metallic_roughness=metallic_roughness, normal=normal_map) if mesh is not None else {}
        unlit = mesh is not None and mesh.unlit and metallic_roughness is None and normal_map is None
        saver = Saver(Master(gaussians, tensors, fps, unlit), glb_mode, spz_axes, provenance.of(cls.hidden))
        asked = [name for name, on in (("master", master), ("viewer", viewer), ("ply", ply), ("spz", spz), ("glb", glb)) if on]
        wanted = [name for name in asked if not saver.missing(name)]
        if not wanted:
            raise ValueError("Nothing would be saved: connect gaussians or a mesh, and switch on a format for it (glb is for the mesh, ply, spz and viewer are for Gaussians).")
        shown = written(saver, filename_prefix, wanted)
        lines = [f"{below_output(path)}  {in_words(size_of(path))}" for path in shown.values()]
        lines += [f"{name} left out: {saver.missing(name)}" for name in asked if name not in wanted]
        made = Types.File3D(str(shown["glb"])) if "glb" in shown else ExecutionBlocker("Save 4D wrote no GLB: connect a mesh to it and switch glb on.")
        entries = {"files": tuple(entry(file) for path in shown.values() for file in files_in(path))}
        return io.NodeOutput(below_output(shown[wanted[0]]), made, "\n".join(lines), ui={"text": tuple(lines), **entries})


def written(saver: Saver, prefix: str, wanted: list[str]) -> dict:
    """Write the formats under one number; their files and folders by format."""
    sizes = saver.sizes()
    refuse_large_viewer(wanted, sizes)
    bar = comfy.utils.ProgressBar(saver.steps(wanted))

    def progress():
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update(1)

    with together(prefix, {name: sizes[name] for name in wanted}) as save:
        refuse_broken(saver.master)
        for name in wanted:
            saver.write(name, save, progress)
        save.show()
        return {name: save.folder / f"{save.stem}{ENDINGS.get(name, name)}" for name in wanted}


def files_in(path) -> list:
    """A file itself, or every file of a folder."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def size_of(path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in files_in(path))


NODES = [Bloom4DSave4D]
