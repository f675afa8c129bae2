"""The registry's archive of the pack: the repository's files without those that .comfyignore names."""

import shutil
import subprocess
from pathlib import Path

OPTIONAL = ("diffusers", "skimage", "pygltflib", "warp", "gsplat", "tinycudann", "nvdiffrast", "accelerate", "ray", "torchmetrics", "lpips")
"""Packages that nobody needs to have."""


def listed(root: Path, *options: str) -> set[str]:
    """Files that git lists: tracked ones and new ones that .gitignore does not hide."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", *options]
    return set(filter(None, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")))


def archive_files(root: Path) -> list[str]:
    """Relative paths of what the archive contains."""
    left_out = listed(root, "--ignored", f"--exclude-from={root / '.comfyignore'}")
    present = {name for name in listed(root, "--exclude-standard") if (root / name).is_file()}
    return sorted(present - left_out)


def unpack(root: Path, target: Path):
    """Copy the archive's files to `target`, as the registry's installer would."""
    for name in archive_files(root):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target / name)
