"""Residency, progress, paths and leaving inference mode: what long nodes lean on."""

import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def sent(comfy, monkeypatch):
    """What a client would receive: (value, total, has picture), texts."""
    import comfy_execution.progress as progress_state

    updates, texts = [], []

    class Recorder(progress_state.ProgressHandler):
        def update_handler(self, node_id, value, max_value, state, prompt_id, image=None):
            updates.append((node_id, value, max_value, image))

    registry = progress_state.ProgressRegistry("prompt", None)
    registry.register_handler(Recorder("recorder"))
    monkeypatch.setattr(progress_state, "global_progress_registry", registry)
    from bloom4d.nodes.host import progress

    monkeypatch.setattr(progress.HostCallback, "_send_text", lambda self, text: texts.append(text))
    return progress, updates, texts


class Clock:
    """A clock that tests advance."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_every_step_is_reported_and_pictures_come_four_times_a_second(sent):
    progress, updates, texts = sent
    clock, drawn = Clock(), []
    report = progress.HostCallback(20, "7", clock=clock)
    for step in range(1, 21):
        clock.now += 0.1
        report(step, f"loss {step}", lambda: drawn.append(clock.now) or torch.full((1, 4, 4, 3), 0.5))
    assert [value for _, value, _, _ in updates] == list(range(1, 21))
    assert {(node, total) for node, _, total, _ in updates} == {("7", 20)}
    assert 5 <= len(drawn) <= 8 and all(b - a > 0.24 for a, b in zip(drawn, drawn[1:]))
    assert sum(image is not None for *_, image in updates) == len(drawn)
    picture = next(image for *_, image in updates if image is not None)
    assert picture[0] == "JPEG" and picture[1].getpixel((1, 1)) == (128, 128, 128)
    assert texts[0] == "step 1/20, loss 1, 2 s left" and texts[-1] == "step 20/20, loss 20"
    assert len(texts) < 12


def test_time_left_counts_only_the_steps_of_this_run(sent):
    progress, _, texts = sent
    clock = Clock()
    report = progress.HostCallback(1000, "7", first=900, clock=clock)
    clock.now += 20
    report(910)
    assert texts == ["step 910/1000, 3 min 00 s left"]
    assert [progress.duration(s) for s in (5, 61, 3600 * 2 + 299)] == ["5 s", "1 min 01 s", "2 h 04 min"]


def test_a_failing_preview_never_ends_the_run(sent, caplog):
    progress, updates, _ = sent
    clock = Clock()
    report = progress.HostCallback(3, "7", clock=clock)
    for step in range(1, 4):
        clock.now += 1
        report(step, preview=lambda: 1 / 0)
    assert len(updates) == 3 and caplog.text.count("ZeroDivisionError") == 1


def test_interrupts_are_seen_at_every_step_even_without_a_client(sent):
    import comfy.model_management as management

    progress, _, _ = sent
    report = progress.HostCallback(3)  # outside the host: no node is executing
    report(1)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        report(2)
    report(3)  # obeyed once, then over


def test_models_are_placed_and_reported(comfy, synthetic):
    import comfy.model_management as management

    from bloom4d.nodes.host import residency

    management.unload_all_models()
    assert residency.report() == "no model is loaded"
    model = synthetic.image_model()
    residency.make_resident([model], 1e6)
    (placed,) = residency.placements()
    weights = sum(p.numel() * p.element_size() for p in model.model.parameters())
    assert placed.name == "CameraModel" and placed.loaded_bytes == placed.total_bytes >= weights
    assert "MiB on cpu" in residency.report()
    residency.make_room(1e18)  # nothing to evict for on the CPU
    assert residency.placements() == [placed]


GIB = 1 << 30


class Loaded:
    """A model in the host's list of loaded ones, on a card of 12 GiB."""

    def __init__(self, name: str, size: float, resident: bool = True):
        self.device = torch.device("cuda", 0)
        self.model, self.size, self.resident = SimpleNamespace(model=type(name, (), {})(), is_dynamic=lambda: False, model_size=lambda: size, load_device=self.device), size, resident
        self.currently_used = True

    def is_dead(self):
        return False

    def model_memory(self):
        return self.size

    def model_offloaded_memory(self):
        return 0

    def model_unload(self, size):
        self.resident = False
        return True


@pytest.fixture
def card(comfy, monkeypatch):
    """`card(models)` puts them on a card of 12 GiB; the host's own eviction runs, its figures are the fake card's."""
    import comfy.model_management as management

    from bloom4d.nodes.host import residency

    def fill(*models):
        monkeypatch.setattr(management, "current_loaded_models", list(models))
        monkeypatch.setattr(management, "get_total_memory", lambda device: 12 * GIB)
        held = lambda: sum(model.size for model in models if model.resident)  # noqa: E731
        monkeypatch.setattr(management, "get_free_memory", lambda device, torch_free_too=False: (12 * GIB - held(), 0) if torch_free_too else 12 * GIB - held())
        return residency, torch.device("cuda", 0)

    return fill


def test_text_encoders_and_models_of_earlier_prompts_make_room_first(card):
    text, unet, video = Loaded("Text", 1 * GIB), Loaded("UNet", 2 * GIB), Loaded("Video", 3 * GIB, resident=False)
    residency, device = card(text, unet)
    room = residency.RunRoom([unet.model, video.model], device)
    assert room.free(8 * GIB) == (12 - 3 - 3) * GIB and text.resident, "what is still to be loaded is not free; nothing had to go"
    assert room.free(9.5 * GIB) == (12 - 2 - 3) * GIB and not text.resident and unet.resident, "the text encoder goes, our own stays"
    assert room.free(11 * GIB) == (12 - 2 - 3) * GIB and unet.resident
    room.make(11 * GIB)
    assert not unet.resident, "what must be there is made, and the model comes back when it is asked"


def test_models_that_never_fit_together_leave_an_eighth_to_plan_with(card):
    large = Loaded("Large", 20 * GIB, resident=False)
    residency, device = card()
    assert residency.RunRoom([large.model], device).free(8 * GIB) == 1.5 * GIB


def test_pictures_are_encoded_one_at_a_time_where_all_of_the_runs_models_leave_no_room_for_their_graphs(card, synthetic, monkeypatch):
    """Asked before anything is loaded. The size of the models that are still to come decides, of every term and not only the asked one's."""
    unet, video, elsewhere = (Loaded(name, 4 * GIB, resident=False) for name in ("UNet", "Video", "Other card"))
    residency, device = card()
    elsewhere.model.load_device = torch.device("cuda", 1)
    from bloom4d.nodes.host import adapter, encode

    vae = synthetic.pixel_vae()
    monkeypatch.setattr(vae, "device", device)
    monkeypatch.setattr(vae, "memory_used_encode", lambda shape, dtype: GIB / 4)
    prior = adapter.HostPrior(synthetic.image_model(), vae, [synthetic.conditioning(1)], synthetic.conditioning(2), size=(16, 16))

    def heavy(pictures, *models):
        return prior.heavy(pictures, residency.RunRoom([item.model for item in models], device))

    assert encode.GRAPH_FACTOR == 2 and adapter.ENCODING_SHARE == 0.4, "half a GiB for each picture, of 0.4 of what may be planned with"
    assert not heavy(4, unet) and not heavy(9, elsewhere), "12 or 8 GiB to plan with, 4.8 or 3.2 for the graphs"
    assert heavy(4, unet, video), "4 GiB, 1.6 for the graphs"
    unet.resident = True
    card(unet)
    assert not heavy(4, unet) and heavy(4, unet, video), "a model that is loaded is counted once"
    assert heavy(10, elsewhere) and not heavy(1, unet, video)


def test_on_the_cpu_nothing_is_evicted_and_other_programs_decide_nothing(comfy, monkeypatch):
    import comfy.model_management as management

    from bloom4d.nodes.host import residency

    monkeypatch.setattr(management, "get_free_memory", lambda device: pytest.fail("what others leave free must not decide a result's bytes"))
    monkeypatch.setattr(management, "get_total_memory", lambda device: 2000)
    monkeypatch.setattr(management, "free_memory", lambda *arguments, **options: pytest.fail("the CPU has one memory"))
    room = residency.RunRoom([], torch.device("cpu"))
    assert room.free(5000) == 1000
    room.make(5000)


def test_models_that_come_back_are_counted(comfy, synthetic):
    import comfy.model_management as management

    from bloom4d.nodes.host import residency
    from bloom4d.nodes.runner import exchanged

    first, second = synthetic.image_model(), synthetic.image_model(seed=1)
    management.unload_all_models()
    with residency.counting() as loads:
        for _ in range(3):
            residency.make_resident([first, second], 1e6)
        assert sorted(loads.values()) == [1, 1] and exchanged(loads) == ""
        management.unload_all_models()
        residency.make_resident([first], 1e6)
    residency.make_resident([second], 1e6)  # nobody counts any more
    assert sorted(loads.values()) == [1, 2]
    assert exchanged(loads) == "Not everything fits in memory together. Loaded again, times: CameraModel 1. A larger block in the Stage exchanges models less often."


@dataclass(frozen=True)
class Bag:
    tensor: torch.Tensor
    label: str


def test_clones_are_ordinary_wherever_they_hide(comfy):
    from bloom4d.nodes.host.inference import gradients, ordinary

    layer = torch.nn.Linear(2, 2)
    layer.register_buffer("count", torch.ones(1))
    given = {"a": [torch.ones(2), (torch.zeros(1), 3)], "b": Bag(torch.ones(3), "x"), "c": layer}
    assert given["a"][0].is_inference() and layer.weight.is_inference()
    with gradients():
        clone = ordinary(given)
        tensors = [clone["a"][0], clone["a"][1][0], clone["b"].tensor, clone["c"].weight, clone["c"].count]
        assert not any(value.is_inference() for value in tensors)
        assert clone["a"][1][1] == 3 and clone["b"].label == "x"
        leaf = clone["a"][0].requires_grad_()
        (clone["c"](leaf) * clone["b"].tensor[:2]).sum().backward()
        assert leaf.grad is not None and clone["c"].weight.grad is not None
        with pytest.raises(RuntimeError, match="[Ii]nference"):
            given["c"](leaf).sum().backward()  # the originals still refuse
    assert torch.is_inference_mode_enabled()
    with pytest.raises(AssertionError):
        ordinary(given)


@pytest.fixture
def paths(comfy, tmp_path, monkeypatch):
    import folder_paths

    from bloom4d.nodes.host import paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    (tmp_path / "output").mkdir()
    return paths


def test_runs_lie_in_the_output_folder_and_nowhere_else(paths, tmp_path):
    folder = paths.run_folder("roses/red: 1?", "abc")
    assert folder == tmp_path / "output/bloom4d/runs/roses/red_ 1_/abc"
    assert paths.runs_of("roses/red: 1?") == []
    folder.mkdir(parents=True)
    assert paths.runs_of("roses/red: 1?") == [folder]
    for prefix in ("../x", "a/../../x", "/etc", "a\\..\\..\\b"):
        with pytest.raises(ValueError, match="leads out of the output folder"):
            paths.run_folder(prefix, "abc")
        with pytest.raises(ValueError, match="leads out"), paths.output_file(prefix, "glb"):
            pass
    (tmp_path / "output/bloom4d/runs/link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of the folder"):
        paths.run_folder("link", "abc")


def test_output_files_are_numbered(paths, tmp_path):
    with paths.output_file("fields/rose", "safetensors") as first:
        assert first == tmp_path / "output/fields/rose_00001_.safetensors"
        first.touch()
    with paths.output_file("fields/rose", ".safetensors") as second:
        assert second.name == "rose_00002_.safetensors"


def test_what_a_killed_save_left_is_swept_and_takes_no_number(paths, tmp_path):
    leftover, other = (tmp_path / "output/fields" / name for name in ("rose_00001_.safetensors.tmp", "roses.tmp"))
    leftover.parent.mkdir()
    leftover.touch(), other.touch()
    with paths.output_file("fields/rose", "safetensors") as path:
        assert path.name == "rose_00001_.safetensors" and not leftover.exists() and other.exists()


def test_two_processes_never_take_the_same_number(paths, tmp_path):
    """The second waits until the first has its file."""
    order = []

    def save(name):
        with paths.output_file("rose", "txt") as path:
            order.append(f"{name} begins")
            time.sleep(0.1)
            path.touch()
            order.append(f"{name} ends with {path.name}")

    savers = [threading.Thread(target=save, args=(name,)) for name in "ab"]
    [saver.start() for saver in savers], [saver.join() for saver in savers]
    assert [line.split()[0] for line in order] in (["a", "a", "b", "b"], ["b", "b", "a", "a"])
    assert {path.name for path in (tmp_path / "output").glob("rose*")} == {"rose_00001_.txt", "rose_00002_.txt"}


def test_an_output_folder_that_takes_nothing_is_named(paths, tmp_path):
    (tmp_path / "output/bloom4d").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"output folder .*/output cannot be written to \(.*\)\. Make it writable or free"), paths.output_file("rose", "txt"):
        pass


def test_the_model_folder_lists_safetensors_only_and_keeps_extra_paths(paths, tmp_path):
    import folder_paths

    extra = tmp_path / "elsewhere"
    folder_paths.folder_names_and_paths["bloom4d"] = ([str(extra)], set())
    paths.register_model_folder()
    paths.register_model_folder()
    for folder in (extra, tmp_path / "models/bloom4d"):
        folder.mkdir(parents=True)
        (folder / f"{folder.name}.safetensors").touch()
        (folder / "readme.txt").touch()
    assert folder_paths.get_filename_list("bloom4d") == ["bloom4d.safetensors", "elsewhere.safetensors"]
    assert paths.weights_file("elsewhere.safetensors") == extra / "elsewhere.safetensors"
    with pytest.raises(ValueError, match='"none.safetensors" is missing. Put it into .*models/bloom4d'):
        paths.weights_file("none.safetensors")
