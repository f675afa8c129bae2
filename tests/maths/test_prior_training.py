"""The prior's data set and training loop: deterministic, resumable to the byte, and able to learn."""

import json
from dataclasses import replace

import pytest
import torch
import train_prior as command
from safetensors import safe_open
from safetensors.torch import save_file

from bloom4d.models.data.prior_dataset import LAYOUTS, PriorDatasetConfig, build_dataset
from bloom4d.models.data.styles import HELD_OUT_PAIRS
from bloom4d.models.networks.joint_prior import JointPrior, JointPriorConfig
from bloom4d.models.networks.patch_codec import PatchCodec, PatchCodecConfig
from bloom4d.models.networks.prior_conditioning import condition_size
from bloom4d.models.networks.text_encoder import END_TOKEN, TextEncoder
from bloom4d.models.optimize.prior_batches import PriorTrainingConfig
from bloom4d.models.optimize.train_prior import PriorNetworks, new_state, train_prior
from bloom4d.models.optimize.training_files import load_training, save_training

SMALL = PriorDatasetConfig(objects=14, times=4, views=4, size=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return build_dataset(SMALL, tmp_path_factory.mktemp("data"), lambda done, total: None, shard=7)


def test_pictures_are_drawn_once_and_depend_on_the_configuration_only(data, tmp_path):
    reports = []
    first = build_dataset(replace(SMALL, objects=7), tmp_path, lambda done, total: reports.append((done, total)), shard=7)
    assert torch.equal(first.pictures, data.pictures[:7]) and reports == [(7, 7)]
    written = next(tmp_path.glob("prior_*.safetensors")).stat().st_mtime_ns
    build_dataset(replace(SMALL, objects=14), tmp_path, lambda *_: None, shard=7)
    assert min(path.stat().st_mtime_ns for path in tmp_path.glob("prior_*.safetensors")) == written, "the first shard was kept"
    other = build_dataset(replace(SMALL, objects=7, seed=12), tmp_path, lambda *_: None, shard=7)
    assert not torch.equal(other.pictures, first.pictures)


@pytest.mark.parametrize("role", [role for role, (times, _, _) in LAYOUTS.items() if times <= SMALL.times])
def test_scenes_hold_one_object_each(data, role):
    times, views, _ = LAYOUTS[role]
    scenes = data.scenes(role, 3, torch.Generator().manual_seed(1))
    assert scenes.frames == times * views and scenes.scenes == len(scenes.prompts) == 3
    grid_times = scenes.times.view(3, times, views)
    assert (grid_times == grid_times[:, :, :1]).all() and (grid_times.diff(dim=1) >= 0).all(), "time is the slow axis and ascends"
    grid_azimuth = scenes.azimuth.view(3, times, views)
    assert (grid_azimuth == grid_azimuth[:, :1]).all()


def test_training_never_draws_held_out_pairs(data):
    assert all((style.species, style.colour) not in HELD_OUT_PAIRS[style.phenomenon] for style in data.styles)
    assert sum(len(pairs) for pairs in HELD_OUT_PAIRS.values()) >= 14


def tokenise(prompts):
    tokens = torch.full((len(prompts), 77), END_TOKEN)
    for row, prompt in enumerate(prompts):
        tokens[row, : 1 + len(prompt.split())] = torch.tensor([49406, *(hash_word(word) for word in prompt.split())])
    return tokens


def hash_word(word):
    return sum(ord(letter) * 31**place for place, letter in enumerate(word)) % 40000


def fresh(config):
    torch.manual_seed(0)
    networks = lambda: PriorNetworks(JointPrior(JointPriorConfig(width=64, condition_size=condition_size(64))), TextEncoder())  # noqa: E731
    return new_state(networks(), networks(), config)


def run(data, state, codec, config, steps):
    losses = []
    train_prior(state, codec, data, tokenise, replace(config, steps=steps), lambda _, loss, __: losses.append(loss.item()))
    return losses


def test_interrupted_training_ends_in_the_same_bytes(data, tmp_path):
    codec = PatchCodec.fit(data.pictures[:, 0, 0].float() / 255, PatchCodecConfig())
    config = PriorTrainingConfig(frames_per_batch=8, warmup=2, learning_rate=1e-3)
    whole = fresh(config)
    run(data, whole, codec, replace(config, final_rate=1.0), 4)
    half = fresh(config)
    run(data, half, codec, replace(config, final_rate=1.0), 2)
    save_training(tmp_path / "state.safetensors", half.networks, half.average, half.optimizer, half.step)
    resumed = fresh(config)
    resumed.step = load_training(tmp_path / "state.safetensors", resumed.networks, resumed.average, resumed.optimizer)
    assert resumed.step == 2
    run(data, resumed, codec, replace(config, final_rate=1.0), 4)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name
    assert not torch.equal(whole.networks.denoiser.out[2].weight, half.networks.denoiser.out[2].weight), "control: two more steps do something"


def test_a_few_steps_lower_the_loss(data):
    codec = PatchCodec.fit(data.pictures[:, 0, 0].float() / 255, PatchCodecConfig())
    config = PriorTrainingConfig(frames_per_batch=8, warmup=5, learning_rate=2e-3, average=0.9)
    losses = run(data, fresh(config), codec, config, 30)
    assert sum(losses[-8:]) < 0.75 * sum(losses[:8])


def test_a_step_without_a_finite_gradient_changes_nothing(data):
    codec = PatchCodec.fit(data.pictures[:, 0, 0].float() / 255, PatchCodecConfig())
    config = PriorTrainingConfig(frames_per_batch=8, warmup=2, learning_rate=1e-3, final_rate=1.0)
    state = fresh(config)
    run(data, state, codec, config, 2)
    before = {name: value.clone() for name, value in state.networks.state_dict().items()}

    class Broken:
        sample = staticmethod(data.sample)

        def look(self, where):
            return data.look(where) * float("nan")

    run(Broken(), state, codec, config, 5)
    assert state.step == 5 and all(torch.equal(value, before[name]) for name, value in state.networks.state_dict().items())
    run(data, state, codec, config, 6)
    assert not torch.equal(state.networks.denoiser.out[2].weight, before["denoiser.out.2.weight"]), "control: the next good step does something"
    with pytest.raises(ValueError, match="21 steps in a row.*not finite"):
        run(Broken(), state, codec, config, 40)


def test_the_command_trains_and_goes_on_from_a_prior_file(host_tree, tmp_path):
    def train(name, *options):
        folder = tmp_path / name
        folder.mkdir()
        save_file(TextEncoder().state_dict(), folder / "text_lessons.safetensors")  # the lessons themselves take a minute
        sizes = ["--objects", "2", "--set", "frames_per_batch=8", "--host", str(host_tree), "--folder", str(folder), "--out", str(tmp_path / f"{name}.safetensors")]
        assert command.main([*sizes, *options]) == 0
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}

    first, weights = train("first", "--steps", "2", "--processes", "2", "--set", "denoiser.passed=0.2", "--set", "denoiser.blocks=[2,1]", "--set", "warmup=1")
    assert '"passed": 0.2' in first["config"] and '"blocks": [2, 1]' in first["config"] and first["steps"] == "2" and "start" not in first
    more, later = train("more", "--steps", "1000", "--minutes", "0.03", "--anneal", "--set", "warmup=0", "--start", str(tmp_path / "first.safetensors"))
    assert json.loads(more["start"])["steps"] == "2" and more["config"] == first["config"] and 0 < int(more["steps"]) < 1000
    assert torch.equal(later["codec.basis"], weights["codec.basis"]) and not torch.equal(later["unet.out.2.weight"], weights["unet.out.2.weight"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "learning_speed=1"), 'there is no "learning_speed"'),
        (("--set", "learning_rate"), "NAME=VALUE is needed"),
        (("--set", "denoiser.blocks=two"), "NAME=VALUE is needed"),
        (("--anneal",), "say how many"),
        (("--start", "prior.safetensors", "--set", "denoiser.passed=0.2"), "the network's shape is the file's"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(words, said, capsys):
    with pytest.raises(SystemExit):
        command.main(list(words))
    assert said in capsys.readouterr().err
