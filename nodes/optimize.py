"""Stages, the hybrid score-distillation optimiser, and its curves."""

import time
from dataclasses import replace
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..models.guidance.mixing import parse_probabilities
from ..models.guidance.regularisers import Regularisers
from ..models.guidance.schedules import Schedule, penalty_schedule
from ..models.optimize.advice import advise
from ..models.optimize.checkpoint import CheckpointStore, read_checkpoint
from ..models.optimize.history import StageHistory
from ..models.optimize.workpiece import history_of
from ..models.optimize.refine import Refinement
from ..models.optimize.runs import Pace
from ..models.optimize.stages import Backdrop, LearningRates, Stage
from ..models.render.renderer import default_renderer
from .cameras import number
from .curves import curves_json, draw_curves
from .deformable import canonical_text
from .guidance import PriorSource
from .host import paths
from .host.slots import lonely_pictures
from .runner import HostStage, RunPlan, apart, distil, loss_map, named_apart, notes_of, picture_of, places_of, refine
from .sockets import FIELD_4D, GUIDANCE_4D, RENDERER_4D, STAGE_4D

CATEGORY = "4d/optimize"
PENALTIES = ("opaque", "sparsity", "z_variance", "orientation")


def penalty_schedules() -> list:
    text = 'How {} comes to its weight: "start, from, until", its value before fraction from of the stage and the fraction from which it has its weight. "0, 0.1, 0.1": a step. "0, 0, 0": all the time. Empty: rises over penalties_until.'
    names = {"opaque": "opaque (4D-fy's code: a step at 10,000 steps)", "sparsity": "sparsity (4D-fy: all the time)"}
    return [io.String.Input(f"{name}_schedule", default="", optional=True, advanced=True, tooltip=text.format(names.get(name, name))) for name in PENALTIES]


def rate(role: str, default: float, what: str) -> io.Float.Input:
    return number(f"rate_{role}", default, 0, 1, 1e-6, f"Peak learning rate of {what}; 0 freezes it.")


class Bloom4DStage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        terms = io.Autogrow.TemplatePrefix(GUIDANCE_4D.Input("term", tooltip="A guidance term."), prefix="term", min=0, max=12)
        return io.Schema(
            node_id="Bloom4DStage",
            display_name="Stage",
            category=CATEGORY,
            description="What one optimiser does: its guidance terms and how they share the steps, learning rates by role, coarse-to-fine, penalties.",
            search_aliases=["schedule", "guidance mix", "probabilities", "learning rate"],
            inputs=[
                io.Autogrow.Input("terms", template=terms, tooltip="The guidance terms; a new socket appears with every connection."),
                io.String.Input("probabilities", default="", tooltip='One probability per term, such as "0.5, 0.25, 0.25"; each step draws one term. Empty: every step adds up all terms by their weights.'),
                io.String.Input("name", default="stage", tooltip="A name for the curves."),
                rate("static", 0.03, "the static grid (4D-fy: 0.01, in its last stage 0.0001)"),
                rate("dynamic", 0.0, "the dynamic grid (4D-fy: 0.01 in its last stage)"),
                rate("decoder", 0.007, "the decoders (4D-fy: 0.001)"),
                rate("material", 0.001, "material networks, where a field has some"),
                rate("background", 0.001, "the background network, where a field has one"),
                io.Int.Input("warm_up", default=20, min=0, max=100000, step=1, tooltip="Steps over which the learning rates rise."),
                number("final_rate", 0.2, 0, 1, 0.01, "Share of the learning rates that is left at the stage's end (linear)."),
                number("static_levels", 1.0, 0.01, 1, 0.01, "Share of the static grid's levels that is on at the stage's start, coarse to fine; 1 begins with all."),
                number("dynamic_levels", 1.0, 0.01, 1, 0.01, "Share of the dynamic grid's levels that is on at the stage's start."),
                number("levels_until", 0.4, 0, 1, 0.01, "Part of the stage after which all levels are on."),
                number("blob_start", 0.0, 0, 20, 0.01, "Radius of the density's initial ball at the stage's start; 0 leaves the field's own.", advanced=True),
                number("blob_end", 0.0, 0, 20, 0.01, "Radius at the stage's end (4D-fy: 0.5 to 5, so that parts may leave the ball); 0 leaves the field's own.", advanced=True),
                number("opaque", 0.0, 0, 1e5, 0.001, "Weight of the opacity's entropy: crisp edges; much of it eats thin parts. Penalties are for the pictures of guidance terms; a reference view pays none."),
                number("sparsity", 0.0, 0, 1e5, 0.001, "Weight of the pull to empty space (4D-fy: 10)."),
                number("z_variance", 0.0, 0, 1e5, 0.001, "Weight against fog along the rays.", advanced=True),
                number("orientation", 0.0, 0, 1e5, 0.001, "Weight against surfaces that face away. Costs four more density evaluations for every sample: renders take about 4.5 times as long and keep 3 times as much memory.", advanced=True),
                number("penalties_until", 0.5, 0, 1, 0.01, "Part of the stage over which the penalties rise from 0 to their weights, where they have no schedule of their own.", advanced=True),
                number("random_background", 0.5, 0, 1, 0.01, "For priors that see no alpha: probability of one random background colour per step.", advanced=True),
                number("weight_decay", 0.0, 0, 1, 1e-4, "AdamW's weight decay (threestudio: 0.01).", advanced=True),
                number("levels_end", 1.0, 0.01, 1, 0.01, "Share of both grids' levels that is on from levels_until to the stage's end; below 1 where a later stage adds the finest.", advanced=True),
                io.Int.Input("levels_every", default=0, min=0, max=100000, step=1, optional=True, advanced=True, tooltip="Steps after which one more whole level joins, from the shares above on (Dream-in-4D: 500, from a third of 12 levels). 0: levels fade in until levels_until."),
                io.String.Input("halve_rates_at", default="", optional=True, advanced=True, tooltip="Fractions of the stage at which all learning rates are halved, such as 0.8, 0.9 (Dream-in-4D's code). Empty: nowhere."),
                number("blob_until", 1.0, 0.01, 1, 0.01, "Part of the stage over which the ball's radius moves from blob_start to blob_end (4D-fy's code: half of its last stage).", advanced=True, optional=True),
                io.Int.Input("block", default=1, min=1, max=1024, step=1, optional=True, advanced=True, tooltip="With probabilities: draw a term per so many steps. The expected mix stays; models that do not fit in memory together are exchanged less often (8 to 16)."),
                *penalty_schedules(),
            ],
            outputs=[STAGE_4D.Output("stage", tooltip="For an optimiser.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, terms, probabilities, name, **values):
        guidance = [terms[key] for key in sorted(terms, key=lambda key: int(key.removeprefix("term")))]
        stage = Stage(
            terms=named_apart([item.term for item in guidance]),
            probabilities=parse_probabilities(probabilities, len(guidance)) if guidance else None,
            name=name.strip() or "stage",
            rates=LearningRates(
                **{role: values[f"rate_{role}"] for role in ("static", "dynamic", "decoder", "material", "background")},
                warm_up=values["warm_up"],
                final=values["final_rate"],
                halved_at=fractions(values.get("halve_rates_at", "")),
            ),
            static_levels=Schedule(values["static_levels"], values["levels_end"], 0.0, values["levels_until"]),
            dynamic_levels=Schedule(values["dynamic_levels"], values["levels_end"], 0.0, values["levels_until"]),
            blob=Schedule(values["blob_start"], values["blob_end"], 0.0, values.get("blob_until", 1.0)) if values["blob_start"] and values["blob_end"] else None,
            regularisers=Regularisers(*(penalty_schedule(values.get(f"{key}_schedule", ""), values[key], values["penalties_until"]) for key in PENALTIES)),
            backdrop=Backdrop(values["random_background"]),
            weight_decay=values["weight_decay"],
            levels_every=values.get("levels_every", 0),
            block=values.get("block", 1),
        )
        return io.NodeOutput(HostStage(stage, tuple(item.source for item in guidance)))


def fractions(text: str) -> tuple[float, ...]:
    """Numbers out of a text with commas; ValueError when one of its parts is none."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f'"{text[:60]}" is no list of fractions. Write halve_rates_at as 0.8, 0.9 or leave it empty.') from None


def run_inputs(steps: int) -> list:
    """What every optimiser is asked: length, seed, resume, files, pace, renderer."""
    return [
        io.Int.Input("steps", default=steps, min=1, max=1000000, step=1, tooltip="Steps of this stage; its schedules stretch with it."),
        io.Int.Input("seed", default=0, min=0, max=2**63 - 1, step=1, control_after_generate=True, tooltip="Cameras, noise levels, noise and the order of the terms."),
        io.Combo.Input("resume", options=["auto", "new", "file"], default="auto", tooltip="auto: go on from this run's newest checkpoint, if there is one. new: forget its checkpoints. file: start from the checkpoint named below."),
        io.String.Input("checkpoint", default="", tooltip="For resume = file: a step_*.safetensors below the output folder.", advanced=True),
        io.String.Input("filename_prefix", default="4d", tooltip="Checkpoints go to output/bloom4d/runs/<prefix>/<run>; every different graph is its own run."),
        number("preview_interval", 10, 0, 3600, 0.5, "Seconds between preview pictures; 0 shows none."),
        number("checkpoint_interval", 30, 0, 86400, 0.5, "Seconds between checkpoints; 0 writes one at the end only.", advanced=True),
        number("time_budget", 0, 0, 100000, 0.1, "Minutes after which the stage ends early with what it has; 0 is no limit.", advanced=True),
        RENDERER_4D.Input("renderer", optional=True, tooltip="How the field is rendered. By default volumes at 48 samples per ray, and Gaussians as splats."),
        io.Int.Input("step_budget", default=0, min=0, max=1000000, step=1, optional=True, advanced=True, tooltip="Steps after which the stage ends early with what it has; queue again to go on from there. 0 is no limit."),
    ]


def run_outputs() -> list:
    return [
        FIELD_4D.Output("field_out", display_name="field", tooltip="The optimised field, with the history of all stages."),
        io.Custom("LOSS_MAP").Output("loss_map", tooltip="The stage's losses, for the host's Plot Loss Graph."),
        io.Image.Output("preview", tooltip="A sheet of four views in rows and six times in columns."),
    ]


def plan_of(resume, checkpoint, filename_prefix, preview_interval, checkpoint_interval, time_budget, step_budget=0) -> RunPlan:
    return RunPlan(filename_prefix, resume, checkpoint, Pace(preview_interval, checkpoint_interval, 60.0 * time_budget, step_budget))


def unfinished_stamp(time_budget: float, step_budget: int = 0, otherwise=0) -> int | str:
    """What makes the host run a node again whose budget may have ended it early; without a budget `otherwise` decides."""
    return time.time_ns() if time_budget or step_budget else otherwise


def finished(scene, renderer, sources, said: str, terms=()) -> io.NodeOutput:
    """A run's outputs, and as text what there is to say about its prompts and `terms`, about devices where there are several,
    which canonical field stayed frozen, how the stage went, and `said`."""
    places = places_of(sources) if apart(sources) else ""
    lines = [notes_of(sources), lonely_pictures(terms, sources), places, canonical_text(scene.field), *told(scene.history[-1]), said]
    notes = "\n".join(filter(None, lines))
    return io.NodeOutput(scene, loss_map(scene), picture_of(scene, renderer), ui={"text": (notes,)} if notes else None)


def told(history: StageHistory) -> list[str]:
    """How far a stage came that a budget ended early, and what its last look at the field advises."""
    seen = max(history.watched["step"], default=0.0)  # the last step always ends with a look, also where no term was due
    done = int(max(history.columns["step"], default=-1.0)) + 1
    early = [f"Ended by its budget after {done} of {history.steps} steps. Queue again to go on."] if seen < history.steps else []
    return [*early, *(f"Advice, {advice.name}: {advice.text}" for advice in advise(history))]


class Bloom4DHybridSDSOptimizer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DHybridSDSOptimizer",
            display_name="Hybrid-SDS Optimizer",
            category=CATEGORY,
            description="Runs one stage of hybrid score distillation on a field (4D-fy). Chain one optimiser per stage; queueing the same graph again goes on where it stopped.",
            search_aliases=["text to 4D", "4D-fy", "train field", "score distillation"],
            inputs=[
                FIELD_4D.Input("field", tooltip="The field to start from; it is copied."),
                STAGE_4D.Input("stage", tooltip="Guidance terms, learning rates and penalties."),
                *run_inputs(250),
            ],
            outputs=run_outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, time_budget, step_budget=0, **values):
        return unfinished_stamp(time_budget, step_budget)

    @classmethod
    def execute(cls, field, stage, steps, seed, renderer=None, **plan):
        renderer = renderer or default_renderer(field.field)
        scene, said = distil(field, stage, renderer, steps, seed, plan_of(**plan))
        return finished(scene, renderer, stage.sources, said, stage.stage.terms)


class Bloom4DPhotometricRefinement(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DPhotometricRefinement",
            display_name="Photometric Refinement",
            category=CATEGORY,
            description="A last polish: the prior redraws many views and times of the field together, and the field is fitted to them. Sharper, at some risk of flicker.",
            search_aliases=["refine", "dataset update", "sharpen"],
            inputs=[
                FIELD_4D.Input("field", tooltip="A distilled field; it is copied."),
                GUIDANCE_4D.Input("guidance", tooltip="The guidance node whose prior redraws; its cameras, prompts and guidance scale are used, its weights and noise levels are not."),
                io.Int.Input("views", default=4, min=1, max=32, step=1, tooltip="Views of the pictures that are redrawn together."),
                io.Int.Input("frames", default=4, min=1, max=64, step=1, tooltip="Times of the pictures that are redrawn together; views x frames must suit the model."),
                number("level_start", 0.5, 0.01, 0.98, 0.01, "Noise level of the first redrawing; higher changes more, above 0.6 it flickers."),
                number("level_end", 0.25, 0.01, 0.98, 0.01, "Noise level of the last one."),
                io.Int.Input("denoising_steps", default=8, min=1, max=100, step=1, tooltip="Model calls per redrawing."),
                io.Int.Input("steps_per_round", default=24, min=1, max=10000, step=1, tooltip="Fitting steps between two redrawings."),
                io.Int.Input("pool", default=96, min=1, max=4096, step=1, tooltip="Newest redrawn pictures that are fitted to.", advanced=True),
                io.Int.Input("rays", default=2048, min=64, max=1 << 20, step=1, tooltip="Random pixels per fitting step.", advanced=True),
                rate("static", 0.01, "the static grid"),
                rate("dynamic", 0.01, "the dynamic grid"),
                rate("decoder", 0.002, "the decoders"),
                *run_inputs(192),
            ],
            outputs=run_outputs(),
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, time_budget, step_budget=0, **values):
        return unfinished_stamp(time_budget, step_budget)

    @classmethod
    def execute(
        cls, field, guidance, views, frames, level_start, level_end, denoising_steps, steps_per_round, pool, rays,
        rate_static, rate_dynamic, rate_decoder, steps, seed, renderer=None, **plan,
    ):  # fmt: skip
        renderer = renderer or default_renderer(field.field)
        if not isinstance(guidance.source, PriorSource):
            raise ValueError(f'The refinement draws pictures with a term\'s model, and "{guidance.term.name}" has none. Connect an SDS, Multi-View or Video SDS Guidance.')
        config = Refinement(
            cameras=replace(guidance.term.cameras, views=views, frames=frames),
            level=Schedule(level_start, level_end),
            denoising_steps=denoising_steps,
            guidance=guidance.term.objective.guidance,
            pool=pool,
            steps_per_round=steps_per_round,
            rays=rays,
            rates=LearningRates(rate_static, rate_dynamic, rate_decoder, 0.0, 0.0),
        )
        scene, said = refine(field, guidance.source, config, renderer, steps, seed, plan_of(**plan))
        return finished(scene, renderer, (guidance.source,), said)


class Bloom4DTrainingCurves(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DTrainingCurves",
            display_name="Training Curves",
            category=CATEGORY,
            description="Every term's loss, noise level, gradient norm, opacity and motion, the learning rates, and the object's motion, flicker, faces and filling over all stages: of a field, or of a job from its newest checkpoint.",
            search_aliases=["loss curve", "plot", "metrics", "history"],
            is_output_node=True,
            inputs=[
                io.String.Input("run", default="", tooltip="Instead of a field: the filename prefix of an optimiser, running or stopped, or a step_*.safetensors below the output folder."),
                FIELD_4D.Input("field", optional=True, tooltip="A field that came out of an optimiser; it wins over the run."),
            ],
            outputs=[
                io.Image.Output("curves", tooltip="Nine panels; faint lines are raw, strong ones smoothed, grey lines divide stages."),
                io.String.Output("json", tooltip="The same numbers, term by term."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, run, **values):
        path = newest_checkpoint(run)
        return "" if path is None else f"{path}:{path.stat().st_mtime_ns}"

    @classmethod
    def execute(cls, run, field=None):
        histories = field.history if field is not None else run_history(run)
        if not any(len(history) for history in histories):
            raise ValueError("This field has not been optimised yet, so it has no curves. Connect the field that comes out of an optimiser.")
        image = draw_curves(histories)
        return io.NodeOutput(image, curves_json(histories), ui=ui.PreviewImage(image, cls=cls))


def newest_checkpoint(name: str) -> Path | None:
    """The newest checkpoint file of a run's prefix, or the named file; None when there is none."""
    if not name.strip():
        return None
    if name.strip().endswith(".safetensors"):
        path = paths.inside(folder_paths.get_output_directory(), name.strip())
        return path if path.is_file() else None
    folders = reversed(paths.runs_of(name.strip()))
    return next((found.path for folder in folders if (found := CheckpointStore(folder).latest()) is not None), None)


def run_history(name: str) -> tuple[StageHistory, ...]:
    """The history in the newest checkpoint of a run; ValueError when there is none."""
    path = newest_checkpoint(name)
    if path is None:
        raise ValueError(f'There is no checkpoint of "{name}". Connect a field, or give the filename prefix of an optimiser that has run for half a minute.')
    return (history_of(read_checkpoint(path)),)


NODES = [Bloom4DStage, Bloom4DHybridSDSOptimizer, Bloom4DPhotometricRefinement, Bloom4DTrainingCurves]
