"""The pack's node list as ComfyUI asks for it: every module named here ends with a list `NODES`."""

import importlib
import logging
from pathlib import Path

import folder_paths
from comfy_api.latest import ComfyExtension

from ..models.render.backend import keep_kernels_in
from . import replacements
from .host.paths import MODEL_FOLDER, register_model_folder
from .host.provenance import mark_prompt

MODULES = ("environment", "prior", "multi_view_priors", "field", "gaussian_field", "deformable", "cameras", "render", "guidance", "guidance_vsd", "guidance_losses", "optimize", "files", "procedural", "keying", "metrics", "gaussians", "gaussian_tools", "distil_gaussians", "toy_motion", "viewer", "exports", "imports", "construct", "foreign_priors")


class Bloom4DExtension(ComfyExtension):
    """Registers every node of `MODULES`; an import that fails is an error of the whole pack, never a silent gap."""

    async def on_load(self):
        from server import PromptServer  # not there in a process without a server

        await replacements.register()
        for handler in (replacements.renew_prompt, mark_prompt):
            PromptServer.instance.add_on_prompt_handler(handler)

    async def get_node_list(self):
        register_model_folder()  # before the schemas list its files
        keep_kernels_in(Path(folder_paths.get_system_user_directory(MODEL_FOLDER)) / "kernels")
        modules = [importlib.import_module(f".{name}", __package__) for name in MODULES]
        nodes = [node for module in modules for node in module.NODES]
        logging.info(modules[0].summary(len(nodes)))
        return nodes
