"""Scores of a 4D result, and several results as one table."""

import json
from dataclasses import replace
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..models.data.prior_dataset import species_name
from ..models.data.prompts import parse_names
from ..models.data.styles import PHENOMENA, ObjectStyle
from ..models.formats.writing import write_bytes
from ..models.metrics.field_scores import Named
from ..models.metrics.perceptual import PUBLIC_FILE as LPIPS_FILE
from ..models.metrics.recogniser import load_recogniser
from ..models.metrics.scores import Scores, ordered
from ..models.metrics.sequence_scores import Judges, measure
from ..models.metrics.sequences import sequence
from .host import judges, paths
from .host.shipped import WEIGHTS, missing
from .prior import resolve_cameras
from .sockets import CAMERAS_4D, SCORES_4D
from .table_pictures import draw_plot, draw_table
from .tables import direction, gather, text, to_json, to_markdown

CATEGORY = "4d/metrics"
READ, NOTHING = "read off the prompt", "none"
RECOGNISER = WEIGHTS / "recogniser.safetensors"
CLIP_HINT = "CLIP is absent: put the CLIPModel file of openai/clip-vit-base-patch32 (MIT) into the model folder clip_vision and choose it."
LPIPS_HINT = f"LPIPS is absent: put {LPIPS_FILE} into the model folder bloom4d and choose it; it needs the package lpips."


def named(prompt: str, phenomenon: str) -> Named | None:
    """What the object should be, as the recogniser calls it; species and colour only from a prompt of the same phenomenon."""
    said, species, colour = parse_names(prompt)
    asked = said if phenomenon == READ else None if phenomenon == NOTHING else phenomenon
    if asked is None or asked != said:
        return None if asked is None else Named(asked)
    return Named(asked, None if species is None else species_name(ObjectStyle(asked, species, "")), colour)


def judges_of(prompt: str, phenomenon: str, clip: str, lpips: str, compares: bool) -> Judges:
    """Everything that judges with a network, and notes on its files or on what is missing."""
    asked, found, notes = named(prompt, phenomenon), Judges(), []
    if asked is not None and RECOGNISER.is_file():
        found = replace(found, named=asked, recogniser=load_recogniser(RECOGNISER))
        wanted = ", ".join(name for name in (asked.phenomenon, asked.species, asked.colour) if name)
        notes.append(f"Recogniser: {judges.source(RECOGNISER)}; asked for {wanted}.")
    elif asked is not None:
        notes.append(missing(RECOGNISER.name))
    elif phenomenon == READ:
        notes.append("The recogniser was not asked: the prompt names none of its seven phenomena.")
    if clip != judges.NONE and prompt.strip():
        score, note = judges.clip_score(clip, prompt.strip())
        found, notes = replace(found, text=score), [*notes, note]
    else:
        notes.append(CLIP_HINT if prompt.strip() else "CLIP is absent: there is no prompt.")
    if lpips != judges.NONE and compares:
        distance, note = judges.lpips_distance(lpips)
        found, notes = replace(found, perceptual=distance), [*notes, note]
    else:
        notes.append(LPIPS_HINT if compares else "LPIPS, PSNR, SSIM and relative scores are absent: there is no reference.")
    return replace(found, notes=tuple(notes))


def shown(scores: Scores) -> str:
    """A line per score, then the notes."""
    lines = [f"{name}: {text(scores.finite().get(name))}" + (f" ({direction(name)})" if direction(name) else "") for name in ordered(scores.values)]
    return "\n".join([scores.label, *lines, "", *scores.notes])


def save(prefix: str, contents: dict[str, str]) -> tuple[dict, ...]:
    """Write a numbered file per extension below the output folder; what the browser is told about them. An empty prefix saves nothing."""
    if not prefix.strip():
        return ()
    root, files = Path(folder_paths.get_output_directory()).resolve(), []
    with paths.output_file(prefix.strip(), next(iter(contents))) as first:
        for extension, content in contents.items():
            path = first.with_suffix(f".{extension}")
            try:
                write_bytes(path, content.encode())
            except OSError as error:
                raise OSError(f"The scores could not be written to {path} ({error}). Free some disk space, or choose another folder.") from error
            files.append({"filename": path.name, "subfolder": path.resolve().relative_to(root).parent.as_posix().removeprefix("."), "type": "output"})
    return tuple(files)


class Bloom4DMetrics(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DMetrics",
            display_name="4D Metrics",
            category=CATEGORY,
            description="Scores of a sequence of pictures of one object: sharpness, motion, flicker, agreement of its views, what it is recognised as, closeness to a reference, CLIP text score.",
            search_aliases=["PSNR", "SSIM", "LPIPS", "CLIP score", "evaluate", "scores", "multi-face", "janus"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="times x views pictures of one object, all views of the first time first: from Render Field, Procedural 4D Object or any video."),
                io.String.Input("label", default="result", tooltip="The result's name in tables and files."),
                io.Int.Input("views", default=0, min=0, max=1024, step=1, tooltip="Cameras that see each time. 0: read off the cameras, or 1 (a video) without them."),
                io.String.Input("prompt", default="", multiline=True, tooltip="What the object should be: for the CLIP score, and for the recogniser when it is to read it."),
                io.Combo.Input("phenomenon", options=[READ, *PHENOMENA, NOTHING], default=READ, tooltip="What the recogniser should see. It knows the demo's seven procedural phenomena and nothing else; none leaves it out."),
                io.Combo.Input("clip", options=judges.CLIP.options(), default=judges.NONE, tooltip="A whole CLIPModel in Hugging Face's layout from the model folders clip_vision or bloom4d, such as openai/clip-vit-base-patch32. none: no CLIP score."),
                io.Combo.Input("lpips", options=judges.LPIPS.options(), default=judges.NONE, tooltip=f"The network of LPIPS from the model folder bloom4d: {LPIPS_FILE}. Needs a reference and the package lpips. none: no LPIPS."),
                io.String.Input("filename_prefix", default="bloom4d/scores/scores", tooltip="Path and name of the JSON file below the output folder; a number is added. Empty: no file."),
                io.Mask.Input("mask", optional=True, tooltip="1 where the object is, one per picture. Without it the scores of silhouettes and the recogniser are left out."),
                io.Image.Input("reference", optional=True, tooltip="The true pictures, as many and of the same cameras: adds PSNR, SSIM, LPIPS and relative scores."),
                io.Mask.Input("reference_mask", optional=True, tooltip="1 where the true object is."),
                CAMERAS_4D.Input("cameras", optional=True, tooltip="The cameras of the pictures: tells views from times, and lets silhouettes of the views be compared."),
            ],
            outputs=[
                SCORES_4D.Output("scores", tooltip="For an Ablation Table."),
                io.String.Output("json", tooltip="Label, values and notes. A score that does not apply is null, one that was not measured is not there."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, clip=None, lpips=None, **values):
        return judges.CLIP.stamp(clip), judges.LPIPS.stamp(lpips)

    @classmethod
    def execute(cls, images, label, views, prompt, phenomenon, clip, lpips, filename_prefix, mask=None, reference=None, reference_mask=None, cameras=None):
        if reference is None and reference_mask is not None:
            raise ValueError("There is a reference_mask and no reference. Connect the pictures that the mask came with, or neither.")
        where = None if cameras is None else resolve_cameras(cameras)
        seen = sequence(images, mask, views, where)
        real = None if reference is None else sequence(reference, reference_mask, seen.pictures.shape[1], name="reference")
        scores = measure(label.strip() or "result", seen, real, judges_of(prompt, phenomenon, clip, lpips, real is not None))
        content = json.dumps(scores.report(), indent=1, ensure_ascii=False)
        files = save(filename_prefix, {"json": content + "\n"})
        return io.NodeOutput(scores, content, ui={"text": (shown(scores),), "scores": ({"label": scores.label, "values": scores.finite()},), "files": files})


class Bloom4DAblationTable(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        grow = lambda kind, name, tooltip: io.Autogrow.TemplatePrefix(kind.Input(name, tooltip=tooltip), prefix=name, min=0, max=50)  # noqa: E731
        scores = grow(SCORES_4D, "score", "The scores of one result.")
        pictures = grow(io.Image, "picture", "Pictures of the result with the same number; up to six are shown.")
        return io.Schema(
            node_id="Bloom4DAblationTable",
            display_name="Ablation Table",
            category=CATEGORY,
            description="Several results side by side: a table with the best value of every score in bold, bars, and pictures of each; saved as JSON and Markdown.",
            search_aliases=["compare", "benchmark", "scores", "bar plot", "results table"],
            is_output_node=True,
            inputs=[
                io.Autogrow.Input("scores", template=scores, tooltip="One result per socket; a new socket appears with every connection."),
                io.Autogrow.Input("pictures", template=pictures, tooltip="Pictures of the results: picture0 stands beside score0."),
                io.String.Input("labels", default="", multiline=True, tooltip="One name per line, from the first row on. An empty line keeps the name that the scores bring; rows of pictures only need one."),
                io.String.Input("filename_prefix", default="bloom4d/tables/table", tooltip="Path and name of the JSON and Markdown files below the output folder; a number is added. Empty: no files."),
            ],
            outputs=[
                io.Image.Output("table", tooltip="A line per result, a column per score, pictures at the right."),
                io.Image.Output("plot", tooltip="A panel of bars per score."),
                io.String.Output("json", tooltip="All values, notes, meanings, and the best results of every score."),
                io.String.Output("markdown", tooltip="The table for a text."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, scores, pictures, labels, filename_prefix):
        number = lambda given, name: {int(key.removeprefix(name)): value for key, value in (given or {}).items() if value is not None}  # noqa: E731
        rows = gather(number(scores, "score"), number(pictures, "picture"), labels)
        table, plot, content, markdown = draw_table(rows), draw_plot(rows), to_json(rows), to_markdown(rows)
        files = save(filename_prefix, {"json": content + "\n", "md": markdown})
        preview = ui.PreviewImage(table, cls=cls).as_dict()
        return io.NodeOutput(table, plot, content, markdown, ui={**preview, "files": files})


NODES = [Bloom4DMetrics, Bloom4DAblationTable]
