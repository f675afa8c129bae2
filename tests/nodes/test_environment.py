"""4D Environment: facts a maintainer needs, nothing that a user would rather keep."""

import os

import torch


def test_report_names_versions_device_and_backends(comfy):
    from bloom4d.nodes import environment

    with torch.inference_mode():
        text, = environment.Bloom4DEnvironment.execute().result
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    assert text.startswith(f"Bloom4D {environment.pack.version()}, ComfyUI ")
    assert "cpu" in lines["Device"] and lines["Backend of volume rendering"] == "torch (reference in plain torch, CPU and GPU)"
    assert all("torch (" in lines[f"Backend of {operation}"] for operation in environment.OPERATIONS)
    assert os.path.expanduser("~") not in text and os.sep + "home" not in text


def test_a_package_that_is_missing_says_what_to_do(comfy):
    from bloom4d.nodes import environment

    assert "install requirements.txt" in environment.requirement_line("no-such-package", "no_such_module")
    assert environment.requirement_line("no-such-package", "json") == "no-such-package missing"


def test_the_backend_that_runs_stands_first(comfy, monkeypatch):
    from bloom4d.nodes import environment

    monkeypatch.setenv("BLOOM4D_BACKEND", "torch")
    assert all(line.split(": ")[1].startswith("torch (") for line in environment.backend_lines())
    line = next(line for line in environment.backend_lines() if "hash grid" in line)
    assert "; warp (" in line  # usable or not, it says why


def test_the_log_line_names_packages_and_survives_a_wrong_variable(comfy, monkeypatch):
    from bloom4d.nodes import environment

    monkeypatch.delenv("BLOOM4D_BACKEND", raising=False)
    assert "7 nodes; fast backends found: " in environment.summary(7)
    monkeypatch.setenv("BLOOM4D_BACKEND", "torch")
    assert "only the torch backend" in environment.summary(7)
    monkeypatch.setenv("BLOOM4D_BACKEND", "fortran")
    assert "BLOOM4D_BACKEND=fortran names no backend" in environment.summary(7)
