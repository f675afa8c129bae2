"""Our files in other people's readers: every GLB through Khronos' validator, SPZ through its reference library."""

import json
import shutil
import subprocess
from pathlib import Path

import node_packages
import numpy as np
import pytest
from animated_meshes import every_kind, written
from splat_clouds import cloud, moving

from bloom4d.models.formats import spz
from bloom4d.models.gaussians import files
from bloom4d.models.gaussians.frames import turned

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def run_node():
    """Runs one of the scripts beside this file and parses what it prints. Without Node or the packages it skips, in CI it fails."""
    import os

    node = shutil.which("node")
    if node is None or not node_packages.ready():
        reason = "no Node.js" if node is None else "its packages are not installed: run python tools/node_packages.py"
        if os.environ.get("BLOOM4D_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    def run(script: str, *words) -> object:
        command = [node, str(HERE / script), str(node_packages.FOLDER / "node_modules"), *map(str, words)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)

    return run


def test_every_glb_is_valid_without_a_warning(run_node, tmp_path):
    paths = [tmp_path / f"{index}.glb" for index in range(len(every_kind()))]
    for path, kind in zip(paths, every_kind()):
        path.write_bytes(written(kind, {"prompt": '{"text": "ü"}', "bloom4d": "{}"}))
    found = dict(zip(every_kind(), run_node("validate_glb.mjs", *paths)))
    assert found == {kind: [0, 0, found[kind][2]] for kind in every_kind()}
    assert not any(message for *_, messages in found.values() for message in messages)


def test_the_validator_finds_what_is_wrong(run_node, tmp_path):
    whole = written("morph")
    broken = {"bounds": whole.replace(b'"max":[', b'"max":[9', 1), "cut": whole[:-4], "index": whole.replace(b'"indices":', b'"indices":9', 1)}
    paths = [tmp_path / f"{name}.glb" for name in broken]
    for path, data in zip(paths, broken.values()):
        assert data != whole
        path.write_bytes(data)
    assert all(errors > 0 for errors, _, _ in run_node("validate_glb.mjs", *paths))


def arrays(found: dict) -> dict[str, np.ndarray]:
    """The reference library's cloud in our terms: it holds logarithms, logits and x, y, z, w."""
    count, widths = found["count"], {"positions": 3, "scales": 3, "rotations": 4, "colors": 3}
    parts = {name: np.array(found[name]).reshape(count, width) for name, width in widths.items()}
    rest = np.array(found["sh"]).reshape(count, -1, 3)
    return {"positions": parts["positions"], "scales": np.exp(parts["scales"]), "rotations": parts["rotations"][:, [3, 0, 1, 2]],
            "opacities": 1 / (1 + np.exp(-np.array(found["alphas"]))), "harmonics": np.concatenate([parts["colors"][:, None], rest], 1)}  # fmt: skip


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_the_reference_library_reads_our_spz(run_node, tmp_path, degree):
    before, path = cloud(300, degree), tmp_path / "x.spz"
    path.write_bytes(spz.write_spz(before))
    found = run_node("read_spz.mjs", path, "RUB")
    assert (found["count"], found["degree"]) == (300, degree)
    theirs, ours = arrays(found), spz.read_spz(path.read_bytes())
    for name, values in theirs.items():
        assert np.abs(values - getattr(ours, name)).max() < (2e-3 if name == "opacities" else 1e-5), name  # 0 and 1 have no logit
    assert np.abs(theirs["positions"] - before.positions).max() < 3.1e-5
    assert np.abs(np.log(theirs["scales"] / before.scales)).max() < 0.0316
    assert np.abs(theirs["opacities"] - before.opacities).max() < 2.5e-3
    assert np.abs((theirs["rotations"] * before.rotations).sum(1)).min() > np.cos(0.0025)
    assert np.abs(theirs["harmonics"][:, 0] - before.harmonics[:, 0]).max() * 0.2821 < 0.0037


def test_the_reference_library_agrees_on_which_way_is_up(run_node, tmp_path):
    """It turns RUB, which we write, into the axes of 3DGS as our own `turned` does, harmonics too."""
    gaussians, path = moving(1, 100, degree=3), tmp_path / "x.spz"
    path.write_bytes(files.spz_bytes(gaussians, 0))
    theirs, ours = arrays(run_node("read_spz.mjs", path, "RDF")), files.cloud_at(turned(gaussians), 0)
    assert np.abs(theirs["positions"] - ours.positions).max() < 3.1e-5
    assert np.abs((theirs["rotations"] * ours.rotations).sum(1)).min() > 1 - 1e-5
    assert np.abs(theirs["harmonics"][:, 1:] - ours.harmonics[:, 1:].clip(-1, 127 / 128)).max() < 0.5 / 128 + 1e-5
