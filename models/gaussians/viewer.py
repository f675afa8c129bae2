"""Gaussians over time as the sequence that the browser plays."""

from ..formats.viewer_file import ViewerSequence
from .gaussians import Gaussians4D, srgb


def viewer_sequence(gaussians: Gaussians4D, fps: float = 8.0, metadata: dict[str, str] | None = None) -> ViewerSequence:
    """The sequence of a viewer file, played at `fps` times a second; colours lose their dependence on the viewing direction."""
    return ViewerSequence(gaussians.positions, gaussians.rotations, gaussians.scales, gaussians.opacities, srgb(gaussians), gaussians.times, fps, metadata or {})
