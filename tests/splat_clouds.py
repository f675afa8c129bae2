"""Random Gaussians for tests of files: in the unit ball, of ordinary sizes, with any opacity and colour."""

import numpy as np
import torch


def cloud(count=400, degree=0, seed=0):
    """A `SplatCloud`."""
    from bloom4d.models.formats.splat_cloud import SplatCloud

    draws = np.random.default_rng(seed)
    rotations = draws.normal(size=(count, 4))
    harmonics = draws.normal(size=(count, (degree + 1) ** 2, 3)) * 0.25
    harmonics[:, 0] = (draws.uniform(size=(count, 3)) - 0.5) / 0.28209479177387814
    return SplatCloud(
        draws.uniform(-0.7, 0.7, (count, 3)).astype(np.float32),
        (rotations / np.linalg.norm(rotations, axis=1, keepdims=True)).astype(np.float32),
        np.exp(draws.uniform(-4.5, -2, (count, 3))).astype(np.float32),
        draws.uniform(0.02, 0.98, count).astype(np.float32),
        harmonics.astype(np.float32),
    )


def moving(frames=3, count=200, degree=0, seed=0):
    """`Gaussians4D` whose positions and rotations change over time, and nothing else."""
    from bloom4d.models.gaussians.gaussians import Gaussians4D

    first = cloud(count, degree, seed)
    steps = torch.arange(frames).view(-1, 1, 1) / max(frames - 1, 1)
    drift = torch.from_numpy(cloud(count, 0, seed + 1).positions)
    turned = torch.lerp(torch.from_numpy(first.rotations), torch.from_numpy(cloud(count, 0, seed + 2).rotations), 0.4 * steps)
    return Gaussians4D(
        torch.from_numpy(first.positions) + 0.2 * steps * drift, torch.nn.functional.normalize(turned, dim=-1),
        torch.from_numpy(first.scales)[None], torch.from_numpy(first.opacities)[None], torch.from_numpy(first.harmonics)[None],
        torch.arange(frames) / max(frames - 1, 1),
    )  # fmt: skip
