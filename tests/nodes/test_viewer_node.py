"""Preview 4D as the host runs it: the file it writes, what it says, the camera it passes on; and views of what is still forming."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def folders(comfy, tmp_path):
    """The host's temporary folder, in a place of its own."""
    import folder_paths

    before = folder_paths.get_temp_directory()
    folder_paths.set_temp_directory(str(tmp_path / "temp"))
    yield tmp_path / "temp" / "bloom4d"
    folder_paths.set_temp_directory(before)


@pytest.fixture(scope="module")
def node(comfy):
    from bloom4d.nodes.viewer import Bloom4DPreview4D

    return Bloom4DPreview4D


def cloud(count=60, frames=4, **changes):
    from bloom4d.models.gaussians.gaussians import Gaussians4D

    generator = torch.Generator().manual_seed(2)
    values = {
        "positions": torch.rand(frames, count, 3, generator=generator) - 0.5,
        "rotations": torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        "scales": torch.full((1, count, 3), 0.02),
        "opacities": torch.full((1, count), 0.5),
        "harmonics": torch.zeros(1, count, 1, 3),
        "times": torch.linspace(0, 1, frames),
    }
    return Gaussians4D(**{**values, **changes})


def run(node, gaussians, **inputs):
    return node.execute(**{"gaussians": gaussians, "fps": 8.0, "megabytes": 64.0, **inputs})


CAMERA = {"position": {"x": 1, "y": 2, "z": 3}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 35, "zoom": 1, "cameraType": "perspective"}


def test_the_file_holds_the_gaussians_and_the_node_says_what_it_shows(node, folders):
    from bloom4d.models.formats.viewer_file import read_viewer_file

    gaussians = cloud()
    out = run(node, gaussians, fps=12.5)
    file, = out.ui["bloom4d_view"]
    read = read_viewer_file(folders / file["filename"])
    assert (file["subfolder"], file["type"]) == ("bloom4d", "temp") and "camera" not in file
    assert torch.allclose(read.positions, gaussians.positions, atol=1e-5) and read.fps == 12.5
    assert out.ui["text"] == (f"60 Gaussians, 4 times, {(folders / file['filename']).stat().st_size / 1e6:.2f} MB",)
    assert out.result[0] is gaussians


def test_the_same_object_is_the_same_file(node, folders):
    one, other = (run(node, cloud()).ui["bloom4d_view"][0] for _ in range(2))
    assert one == other and len(list(folders.iterdir())) == 1


def test_one_frame_is_shown_too(node, folders):
    assert run(node, cloud(frames=1)).ui["text"][0].startswith("60 Gaussians, 1 times")


def test_the_camera_is_the_sent_view_else_the_input_else_the_usual_one(node, folders):
    other = {**CAMERA, "fov": 50}
    assert run(node, cloud(), view=CAMERA, camera=other).result[1] == CAMERA
    out = run(node, cloud(), view="", camera=other)
    assert out.result[1] == other and out.ui["bloom4d_view"][0]["camera"] == other
    usual = run(node, cloud()).result[1]
    assert math.isclose(math.hypot(*usual["position"].values()), 2.9) and usual["fov"] == 42


def test_the_hosts_own_renderer_sees_the_usual_camera_as_our_rig(node, folders):
    from bloom4d.models.geometry.cameras import CameraPath
    from comfy_extras.nodes_gaussian_splat import _camera_basis

    eye, target, right, up, forward = _camera_basis(run(node, cloud()).result[1], torch.device("cpu"))
    pose = CameraPath(frames=1).cameras().camera_to_world[0]
    turn = torch.tensor([1.0, -1, -1])  # the host renders in the frame of 3DGS
    assert torch.allclose(eye * turn, pose[:3, 3], atol=1e-5) and torch.allclose(forward * turn, -pose[:3, 2], atol=1e-5)


@pytest.mark.parametrize("view", [{"position": {"x": 1}}, {"position": {"x": 1, "y": 2, "z": math.nan}, "target": {"x": 0, "y": 0, "z": 0}}, "<b>", [1]])
def test_a_view_that_is_no_camera_is_refused(node, folders, view):
    with pytest.raises(ValueError, match="The view is no camera: position and target"):
        run(node, cloud(), view=view)


def test_an_exploded_cloud_is_shown_without_what_flew_off(node, folders):
    positions = cloud().positions.clone()
    positions[2, :5], positions[3, 9] = math.nan, 1e6
    text, = run(node, cloud(positions=positions)).ui["text"]
    assert text.splitlines()[0].startswith("54 Gaussians") and "5 of 60 Gaussians hold numbers that are not finite" in text and "1 of 60 Gaussians have flown" in text


def test_an_empty_cloud_is_refused_in_one_line(node, folders):
    with pytest.raises(ValueError, match="^There is nothing to show: the object has no Gaussians.$"):
        run(node, cloud(0))
    assert not folders.exists()


def test_two_million_gaussians_are_thinned_with_numbers(node, folders):
    """16 times of them are 334 MB: the browser gets the most visible ones within the limit."""
    count = 2_000_000
    still = torch.rand(1, count, 3, generator=torch.Generator().manual_seed(0))
    huge = cloud(count, 16, positions=still.expand(16, count, 3))
    text, = run(node, huge, megabytes=4.0).ui["text"]
    assert text.splitlines()[1] == "The 23,952 most visible of 2,000,000 Gaussians are shown: all at 16 times are 334 MB, and 4 MB are allowed."
    assert next(folders.iterdir()).stat().st_size < 4_010_000


def test_colours_that_depend_on_the_view_are_told(node, folders):
    text, = run(node, cloud(harmonics=torch.zeros(1, 60, 9, 3))).ui["text"]
    assert "(degree 2) is not shown" in text


# -- forming --------------------------------------------------------------------------------------------------------------------


PROMPT = {
    "1": {"class_type": "Optimizer", "inputs": {"steps": 3}},
    "2:5": {"class_type": "Bloom4DTrim", "inputs": {"gaussians": ["1", 0]}},
    "3": {"class_type": "Bloom4DPreview4D", "inputs": {"gaussians": ["2:5", 0]}},
    "4": {"class_type": "Bloom4DPreview4D", "inputs": {"gaussians": ["9", 0]}},
    "9": {"class_type": "Other", "inputs": {}},
}


@pytest.fixture
def page(monkeypatch, folders):
    """A host with a running prompt and a page that listens; returns what the page hears."""
    from bloom4d.nodes.host import forming

    heard = []
    queue = SimpleNamespace(get_current_queue_volatile=lambda: ([(0, "x", PROMPT, {}, [])], []))
    instance = SimpleNamespace(client_id="me", prompt_queue=queue, send_sync=lambda *event: heard.append(event))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    monkeypatch.setattr(forming, "_due", {})
    return heard


def test_what_forms_reaches_the_viewers_behind_it_and_no_other(page, folders):
    from bloom4d.models.formats.viewer_file import read_viewer_file
    from bloom4d.nodes.host.forming import show_forming

    assert show_forming("1", cloud(frames=20))
    (event, detail, client), = page
    assert (event, client, detail["viewers"]) == ("bloom4d.forming", "me", ["3"])
    assert len(read_viewer_file(folders / detail["file"]["filename"]).times) <= 8
    assert not show_forming("3", cloud()) and len(page) == 1, "nothing comes after it"


def test_a_view_is_made_only_when_it_is_due(page, monkeypatch):
    from bloom4d.nodes.host import forming

    now, made = [100.0], []
    monkeypatch.setattr(forming.time, "monotonic", lambda: now[0])

    def make():
        made.append(now[0])
        now[0] += 0.5  # what it takes
        return cloud()

    for _ in range(30):
        forming.show_forming("1", make)
        now[0] += 1.0
    assert made == [100.0, 110.5, 121.0], "twenty times what it took lies between two"


def test_a_view_that_fails_costs_nothing(page, folders):
    from bloom4d.nodes.host.forming import show_forming

    def fail():
        raise RuntimeError("out of memory")

    assert not show_forming("1", fail) and page == []


def test_without_host_browser_or_viewer_nothing_is_done(page, monkeypatch, folders):
    from bloom4d.nodes.host.forming import show_forming

    def never():
        raise AssertionError("nobody looks")

    assert not show_forming(None, never) and not show_forming("9x", never)
    monkeypatch.setattr(sys.modules["server"].PromptServer.instance, "client_id", None)
    assert not show_forming("1", never)
    monkeypatch.delitem(sys.modules, "server")
    assert not show_forming("1", never)


def test_a_large_cloud_is_sent_small(page, folders):
    from bloom4d.nodes.host.forming import BYTES, show_forming

    assert show_forming("1", cloud(100_000, 16))
    assert next(folders.iterdir()).stat().st_size <= BYTES + 2000


def test_an_optimiser_of_fields_shows_its_field_so_far(page, folders, monkeypatch):
    from bloom4d.models.formats.viewer_file import read_viewer_file
    from bloom4d.models.gaussians.dynamic import DynamicGaussians
    from bloom4d.nodes import runner

    told = []

    def report(**_):
        def tell(*step):
            told.append(step)

        tell.node_id = "1"
        return tell

    monkeypatch.setattr(runner, "HostCallback", report)
    job = SimpleNamespace(step=0, steps=3, work=SimpleNamespace(field=DynamicGaussians(count=30, generator=torch.Generator().manual_seed(0))))
    runner.watcher(job, "note")(1, "text", None)
    assert told == [(1, "text", None)]
    assert read_viewer_file(folders / page[0][1]["file"]["filename"]).positions.shape[1] == 30
