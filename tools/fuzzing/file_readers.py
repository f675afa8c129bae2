"""Readers of files, in this process: fields, checkpoints, weight files, training states, workflows. They need no ComfyUI."""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import workflow
from hypothesis import strategies as st

from .engine import Reader
from .tensor_files import Damage, TensorFile, damaged
from .values import ODD_TEXTS, changed, changes, one_of, places, texts_of

TINY = {"dimensions": 3, "levels": 2, "base_resolution": 2, "growth": 2.0, "log2_table": 6}


def tiny_field():
    """A field of a few kilobytes."""
    from bloom4d.models.fields.hash_field import HashField, HashFieldConfig
    from bloom4d.models.fields.hash_grid import HashGridConfig

    static = HashGridConfig(**TINY)
    dynamic = HashGridConfig(**{**TINY, "dimensions": 4}, time_ratio=0.5, time_cap=3)
    return HashField(HashFieldConfig(static=static, dynamic=dynamic, hidden=4))


def tiny_scene():
    """A field with the history of one stage."""
    from bloom4d.models.optimize.history import StageHistory
    from bloom4d.models.optimize.scene import Scene
    from bloom4d.models.optimize.stages import LearningRates

    history = StageHistory("stage", ("image",), 2, 0, LearningRates(), ("static",))
    history.add(step=0, term=0, loss=1.0)
    return Scene(tiny_field(), (history,))


class Refined:
    """A refinement of a tiny field whose prior knows nothing: what a checkpoint is restored into."""

    native_size, accepts_alpha, default_guidance = (4, 4), True, 1.0

    def job(self):
        from bloom4d.models.geometry.cameras import CameraSampler
        from bloom4d.models.optimize.refine import Refinement, Refiner
        from bloom4d.models.render.occupancy import OccupancyConfig
        from bloom4d.models.render.volume import VolumeRenderer, VolumeRendererConfig

        renderer = VolumeRenderer(VolumeRendererConfig(samples=4, occupancy=OccupancyConfig(resolution=4, slabs=1)))
        return Refiner(tiny_scene(), self, renderer, Refinement(CameraSampler(views=1), denoising_steps=1, rays=16), 4)

    def encode(self, rgb, alpha):
        return torch.cat([rgb, alpha[..., None]], dim=-1).movedim(-1, 1)

    def decode(self, latents):
        return latents[:, :3].movedim(1, -1).clamp(0, 1), latents[:, 3].clamp(0, 1)

    def sigma_at(self, percent):
        return 1 - percent.float()

    def add_noise(self, x0, noise, sigma):
        return x0 + noise * sigma.view(-1, 1, 1, 1)

    def coefficients(self, sigma):
        return torch.ones_like(sigma), sigma

    def denoise(self, z, sigma, cameras, text, unconditional):
        return z, z


# ---- one damaged file


def file_reader(name: str, whole: Path, documents: tuple[str, ...], read: Callable[[Path], str]) -> Reader:
    """A reader of one safetensors file; the damaged one lies beside the whole one."""
    path = whole.with_name(f"damaged_{whole.name}")

    def take(damage: Damage) -> str:
        path.write_bytes(damage.content)
        return read(path)

    return Reader(name, damaged(TensorFile.read(whole, *documents)), take, names=lambda case: (path.name,))


def field_files(folder: Path) -> Reader:
    from bloom4d.models.optimize.scene_files import load_scene, save_scene

    whole = folder / "field.safetensors"
    save_scene(tiny_scene(), whole)

    def read(path: Path) -> str:
        scene = load_scene(path)
        scene.field(torch.zeros(3, 3), torch.zeros(3))
        for history in scene.history:
            history.learning_rates(0), history.losses()
        return "read"

    return file_reader("field", whole, ("bloom4d",), read)


def prior_files(folder: Path) -> Reader:
    from bloom4d.models.networks.prior_file import load_prior

    return file_reader("prior", tiny_prior(folder), ("config",), lambda path: load_prior(path) and "read")


def tiny_prior(folder: Path) -> Path:
    """A prior file of some hundred kilobytes with random weights."""
    from bloom4d.models.networks.joint_prior import JointPrior, JointPriorConfig
    from bloom4d.models.networks.patch_codec import PatchCodec, PatchCodecConfig
    from bloom4d.models.networks.prior_conditioning import condition_size
    from bloom4d.models.networks.prior_file import save_prior
    from bloom4d.models.networks.text_encoder import TextEncoder, TextEncoderConfig

    text = TextEncoder(TextEncoderConfig(width=8, layers=1, heads=1, table=16))
    denoiser = JointPrior(JointPriorConfig(latent_channels=4, width=64, blocks=(1,), context_size=8, condition_size=condition_size(8)))
    path = folder / "prior.safetensors"
    save_prior(path, denoiser, text, PatchCodec(PatchCodecConfig(channels=4)), {"license": "Apache-2.0"})
    return path


def recogniser_files(folder: Path) -> Reader:
    from bloom4d.models.metrics.recogniser import Recogniser, RecogniserConfig, load_recogniser, save_recogniser

    network = Recogniser(RecogniserConfig(("flower", "candle"), ("rose",), ("red",), (8, 8, 8), 4))
    whole = folder / "recogniser.safetensors"
    save_recogniser(whole, network, {"license": "Apache-2.0"})
    return file_reader("recogniser", whole, ("config",), lambda path: load_recogniser(path) and "read")


def training_files(folder: Path) -> Reader:
    from bloom4d.models.optimize.training_files import load_training, save_training

    def fresh():
        network = torch.nn.Linear(3, 2)
        return network, copy.deepcopy(network), torch.optim.Adam(network.parameters())

    network, average, optimizer = fresh()
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    whole = folder / "training.safetensors"
    save_training(whole, network, average, optimizer, 5)

    def read(path: Path) -> str:
        network, average, optimizer = fresh()
        load_training(path, network, average, optimizer)
        network(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return "read"

    return file_reader("training", whole, (), read)


# ---- checkpoints: two files that belong together


@dataclass(frozen=True)
class Pair:
    """Tensors, the text beside them, whether its hash is made to match, and what `latest` says."""

    damage: Damage | None
    text: str
    sealed: bool
    latest: str

    def __str__(self):
        return f"tensors {self.damage}, sealed {self.sealed}, latest {self.latest[:40]!r}, text {self.text[:1500]}"


def checkpoints(folder: Path) -> Reader:
    """Reads a checkpoint, restores it into a job like the one it came from and does a step; and finds the newest of a folder."""
    from bloom4d.models.optimize.checkpoint import CheckpointStore, read_checkpoint

    store, job = CheckpointStore(folder / "run"), Refined().job()
    for _ in range(2):
        job.advance()
        store.write(job.step, *job.snapshot())
    path = store.latest().path
    file, document = TensorFile.read(path), json.loads(path.with_suffix(".json").read_text())
    values = changes(document).map(lambda steps: json.dumps(changed(document, steps)))
    cases = st.builds(Pair, st.none() | damaged(file), values | values | texts_of(document) | st.just(json.dumps(document)), st.sampled_from([True, True, True, False]),
                      one_of((path.name, path.name, "step_99999999.safetensors", "..", ".", *ODD_TEXTS)))
    content = path.read_bytes()

    def read(pair: Pair) -> str:
        tensors = content if pair.damage is None else pair.damage.content
        path.write_bytes(tensors)
        path.with_suffix(".json").write_text(sealed(pair.text, tensors) if pair.sealed else pair.text, encoding="utf-8", errors="surrogatepass")
        (store.folder / "latest").write_bytes(pair.latest.encode("utf-8", "surrogatepass"))
        assert store.latest().step in (1, 2) or store.latest().path == path  # an older whole one is always left
        job = Refined().job()
        job.restore(read_checkpoint(path))
        return go_on(job)

    return Reader("checkpoint", cases, read, names=lambda case: (path.name, path.stem))


def sealed(text: str, tensors: bytes) -> str:
    """The text with the hash of the tensors in it, where it still is a dictionary."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps({**document, "sha256": hashlib.sha256(tensors).hexdigest()}) if isinstance(document, dict) else text


def go_on(job) -> str:
    """A step of a restored job; what it stops with on purpose is an end like another."""
    if job.step >= job.steps:
        return "read, at its end"
    try:
        job.advance()
    except RuntimeError as error:
        if "steps in a row had gradients" not in str(error) and "The scene has been empty" not in str(error):
            raise
        return "read, stopped for its health"
    job.snapshot()
    return "read, went on"


# ---- workflows


@dataclass(frozen=True)
class Command:
    """A workflow's text and what the command line changes in it."""

    text: str
    changes: tuple[str, ...]
    prompt: str | None
    seed: int | None


SAMPLE = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a rose", "clip": ["2", 1]}, "_meta": {"title": "Prompt"}},
    "2": {"class_type": "Bloom4DEmbeddedPriorLoader", "inputs": {"prior": "embedded_prior.safetensors"}, "_meta": {"title": "Prior"}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "cfg": 3.5, "model": ["2", 0], "deep": {"x": [1, 2]}, "on": True}, "_meta": {"title": "Sampler v1.5"}},
}


def workflows(folder: Path) -> Reader:
    """What `launch.py run` does to a workflow before a host sees it."""
    path = folder / "graph.json"
    page = {"nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}
    titles = ["Prompt.text", "Prior.prior", "Sampler v1.5.seed", "Sampler v1.5.cfg", "3.on", "3.deep", "3.model", "Nobody.x", "Prompt", ".", ""]
    assignments = st.builds(lambda target, equals, value: target + equals + value, st.sampled_from(titles) | st.text(max_size=8), st.sampled_from(["=", "=", "="  , "", "=="]),
                            one_of(("1", "true", "[1]", "nan", "1e999", "[" * 100_000, *ODD_TEXTS)) | st.text(max_size=8))
    cases = st.builds(Command, st.just(json.dumps(SAMPLE)) | texts_of(SAMPLE) | texts_of(SAMPLE) | texts_of(page), st.lists(assignments, max_size=2).map(tuple),
                      st.none() | st.text(max_size=8), st.none() | st.integers())

    def read(command: Command) -> str:
        path.write_bytes(command.text.encode("utf-8", "surrogatepass"))
        prompt = workflow.load(str(path))
        if command.prompt is not None:
            workflow.set_prompt(prompt, command.prompt)
        if command.seed is not None:
            workflow.set_seed(prompt, command.seed)
        for assignment in command.changes:
            workflow.change(prompt, assignment)
        assert all("class_type" in node and "inputs" in node for node in prompt.values()) and places(prompt)
        return "read, changed" if command.changes or command.prompt or command.seed else "read"

    return Reader("workflow", cases, read, (workflow.WorkflowError,))


def workflow_names(folder: Path) -> Reader:
    """Names of workflows, and what is none."""
    names = one_of(("text_to_4d_demo", "text_to_4d_demo.json", *ODD_TEXTS, "a/b/c", str(folder), "x" * 300, "text_to_4d_demo.json\x00")) | st.text(max_size=30)
    return Reader("workflow name", names, lambda name: workflow.load(name) and "read", (workflow.WorkflowError,))
