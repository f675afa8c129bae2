"""What makes a cloud of Gaussians useless, said in words before anything is computed from it."""

import torch

from .gaussians import Gaussians4D

FARTHEST = 1e6  # an object fills the unit ball; beyond this float32 pictures and files hold nothing of it


def check(gaussians: Gaussians4D, name: str = "The Gaussians") -> None:
    """ValueError for an empty cloud, numbers that are not finite, and a cloud that has exploded."""
    if gaussians.count == 0:
        raise ValueError(f"{name} are an empty cloud (0 Gaussians). Connect a node that makes some, or trim less.")
    for attribute, values in gaussians.attributes().items():
        bad = ~torch.isfinite(values).reshape(values.shape[0], gaussians.count, -1).all(-1)  # (T | 1, N)
        if bool(bad.any()):
            frame, index = (int(value) for value in bad.nonzero()[0])
            raise ValueError(
                f"{name} have {attribute} that are not finite: {int(bad.any(0).sum())} of {gaussians.count} Gaussians, the first is number {index} at "
                f"frame {frame}. Trim Gaussians removes them; or make them again with lower learning rates, or load an intact file."
            )
    reach = float(gaussians.positions.abs().amax())
    if reach > FARTHEST:
        share = float((gaussians.positions.abs().amax(-1) > FARTHEST).any(0).float().mean())
        raise ValueError(
            f"{name} have exploded: {share:.1%} of them lie more than {FARTHEST:g} from the centre, the farthest at {reach:.3g}; an object fills the "
            "unit ball. Remove those with Trim Gaussians, or make them again with lower learning rates."
        )
