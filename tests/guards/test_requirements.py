"""Installing our requirements moves nothing that ComfyUI already has."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import environment
import pytest
from rooms import ROOT

FORBIDDEN = {"torch", "torchvision", "torchaudio", "numpy", "transformers", "pillow", "comfyui"}


def requirement_lines() -> list[str]:
    return [line.strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line.strip()]


def test_requirements_name_no_package_of_the_host_and_pin_nothing():
    for line in requirement_lines():
        name = re.split(r"[^A-Za-z0-9_-]", line)[0].lower()
        assert name not in FORBIDDEN and not re.search(r"==|<|~=|@", line), line
    assert len(requirement_lines()) == 3


def closure(lines: list[str]) -> set[str]:
    """Normalised names of the installed packages that some requirements need, themselves included."""
    found, queue = set(), list(lines)
    while queue:
        line = queue.pop()
        name = re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-")
        if name in found or "extra ==" in line:
            continue
        try:
            queue += metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
    return found


def resolve(lines: list[str], frozen: Path) -> subprocess.CompletedProcess:
    """pip's resolution of requirements as if nothing were installed, with every package in `frozen` held at its version."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-input",
               "--disable-pip-version-check", "--constraint", str(frozen), *lines]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def frozen(host_tree, tmp_path_factory):
    """A constraints file with the installed version of every package that the host's own requirements bring."""
    host_lines = [line.split("#")[0].strip() for line in (host_tree / "requirements.txt").read_text(encoding="utf-8").splitlines()]
    file = tmp_path_factory.mktemp("pip") / "frozen.txt"
    held = {name: metadata.version(name) for name in closure([line for line in host_lines if line])}
    assert {"torch", "numpy", "transformers", "pillow"} <= held.keys()
    file.write_text("".join(f"{name}=={version}\n" for name, version in sorted(held.items())), encoding="utf-8")
    probe = resolve([f"packaging=={metadata.version('packaging')}"], file)
    if probe.returncode:
        pytest.skip(f"pip cannot resolve anything here: {probe.stderr.strip().splitlines()[-1]}")
    return file


def test_resolver_keeps_every_package_of_the_host(frozen):
    answer = resolve(requirement_lines(), frozen)
    assert answer.returncode == 0, answer.stderr[-1500:]


@pytest.mark.parametrize("extra", ["fast"])
def test_resolver_keeps_every_package_of_the_host_with_an_extra(frozen, extra):
    answer = resolve([*requirement_lines(), *environment.read_extra(extra)], frozen)
    assert answer.returncode == 0, answer.stderr[-1500:]


def test_nothing_but_requirements_goes_into_a_foreign_comfyui(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(environment.install, "missing", lambda python, lines: asked.extend(lines) or [])
    monkeypatch.setattr(environment, "probe", lambda python: {"mend": False, "cpu": True})
    monkeypatch.setattr(environment, "python_of", lambda tree, given: Path(sys.executable))
    environment.prepare_existing(tmp_path, None)
    assert asked == requirement_lines()


def test_a_requirement_that_moves_a_package_is_found(frozen):
    assert resolve(["numpy<2"], frozen).returncode != 0
