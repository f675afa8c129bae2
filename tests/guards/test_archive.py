"""What the registry would publish is complete, minimal, and works in a ComfyUI without one optional package."""

import subprocess

import pytest
from archive import archive_files
from rooms import ROOT


@pytest.fixture(scope="module", autouse=True)
def _needs_git():
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse"], capture_output=True).returncode:
        pytest.skip("not a git checkout: nothing tells the pack's files from others")


def test_archive_has_what_users_need_and_nothing_else():
    names = archive_files(ROOT)
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md", "web/bloom4d.js", "nodes/extension.py",
            "web/docs/Bloom4DEnvironment.md"} <= set(names)
    folders = {name.split("/")[0] for name in names}
    assert not folders & {"tools", "tests", "benchmarks", "docs", "launch.py", ".ci", ".venv", ".host"}


def test_ignore_file_is_read_as_git_reads_it(tmp_path):
    for name in ("docs/a.md", "web/docs/b.md", "keep.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".comfyignore").write_text("/docs/\n/.comfyignore\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert archive_files(tmp_path) == ["keep.py", "web/docs/b.md"]
    (tmp_path / ".comfyignore").write_text("docs/\n/.comfyignore\n")  # without the leading slash the help pages would be lost
    assert archive_files(tmp_path) == ["keep.py"]


def test_unpacked_archive_offers_the_same_nodes_without_optional_packages(bare_server, server):
    def ours(some):
        return {name for name, info in some.get("/object_info").items() if info["python_module"] == "custom_nodes.bloom4d"}

    assert ours(bare_server) == ours(server) != set()
    assert "IMPORT FAILED" not in bare_server.log


def test_hidden_packages_really_are_hidden(bare_server):
    text, = bare_server.run({"1": {"class_type": "Bloom4DEnvironment", "inputs": {}}}).outputs["1"]["text"]
    assert "diffusers cannot be imported" in text


def test_every_node_of_the_archive_has_its_help_page(bare_server):
    ours = [name for name, info in bare_server.get("/object_info").items() if info["python_module"] == "custom_nodes.bloom4d"]
    folder = bare_server.base / "custom_nodes" / "bloom4d" / "web" / "docs"
    assert [name for name in ours if not (folder / f"{name}.md").is_file()] == []
    for name in ours:
        page = bare_server.get_text(f"/extensions/bloom4d/docs/{name}.md")
        assert page.startswith("# ") and len(page) > 200, name
