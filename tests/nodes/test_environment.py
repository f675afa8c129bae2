"""4D Environment: facts a maintainer needs, nothing that a user would rather keep."""

import os

import torch


def test_report_names_versions_device_and_backends(comfy):
    from bloom4d.nodes import environment

    with torch.inference_mode():
        text, = environment.Bloom4DEnvironment.execute().result
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    assert text.startswith(f"Bloom4D {environment.pack.version()}, ComfyUI ")
    assert "cpu" in lines["Device"] and lines["Backend of hash grid"].startswith("torch")
    assert os.path.expanduser("~") not in text and os.sep + "home" not in text


def test_a_package_that_is_missing_says_what_to_do(comfy):
    from bloom4d.nodes import environment

    assert "install requirements.txt" in environment.requirement_line("no-such-package", "no_such_module")
    assert environment.requirement_line("no-such-package", "json") == "no-such-package missing"
