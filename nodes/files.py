"""Fields as files in the host's output folder."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..models.optimize.scene_files import load_scene, save_scene
from .host import paths, provenance
from .host.content import content_of
from .sockets import FIELD_4D

CATEGORY = "4d/files"
FOLDER = "bloom4d/fields"


class Bloom4DSaveField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DSaveField",
            display_name="Save Field",
            category=CATEGORY,
            description="Saves a field with its configuration and training history as .safetensors in the output folder.",
            search_aliases=["export field", "write field"],
            is_output_node=True,
            inputs=[
                FIELD_4D.Input("field", tooltip="The field to save."),
                io.String.Input("filename_prefix", default=f"{FOLDER}/field", tooltip="Path and name below the output folder; a number is added."),
            ],
            outputs=[io.String.Output("path", tooltip="The file, relative to the output folder: what Load Field takes.")],
        )

    @classmethod
    def execute(cls, field, filename_prefix):
        with paths.output_file(filename_prefix, "safetensors") as path:
            save_scene(field, path, provenance.of(cls.hidden))
        name = path.relative_to(Path(folder_paths.get_output_directory()).resolve()).as_posix() if path.is_absolute() else path.as_posix()
        file = {"filename": path.name, "subfolder": name.rpartition("/")[0], "type": "output"}
        return io.NodeOutput(name, ui={"text": (name,), "files": (file,)})


def saved_fields() -> list[str]:
    """Every .safetensors below the output folder's field folder, newest first, relative to the output folder."""
    root = Path(folder_paths.get_output_directory())
    found = [path for path in (root / FOLDER).rglob("*.safetensors")] if (root / FOLDER).is_dir() else []
    return [path.relative_to(root).as_posix() for path in sorted(found, key=lambda path: -path.stat().st_mtime)]


class Bloom4DLoadField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DLoadField",
            display_name="Load Field",
            category=CATEGORY,
            description="Loads a field that Save Field wrote, to render, export or optimise it further.",
            search_aliases=["import field", "open field"],
            inputs=[
                io.String.Input("path", default=f"{FOLDER}/field_00001_.safetensors", tooltip="The file, relative to the output folder."),
            ],
            outputs=[FIELD_4D.Output("field", tooltip="The field with its training history.")],
        )

    @classmethod
    def fingerprint_inputs(cls, path, **values):
        file = field_path(path)
        return content_of(file) if file.is_file() else ""

    @classmethod
    def execute(cls, path):
        file = field_path(path)
        if not file.is_file():
            known = ", ".join(map(paths.shown, saved_fields()[:2])) or "there is none yet"
            raise ValueError(f'There is no field "{paths.shown(path)}" in the output folder. The newest that were saved: {known}.')
        return io.NodeOutput(load_scene(file))


def field_path(name: str) -> Path:
    """A field file below the output folder; ValueError when the name leads out of it."""
    return paths.inside(folder_paths.get_output_directory(), name.strip())


NODES = [Bloom4DSaveField, Bloom4DLoadField]
