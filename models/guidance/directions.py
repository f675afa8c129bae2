"""View-dependent prompts: which of a prompt's variants describes a camera."""

import math
from dataclasses import dataclass

from ..geometry.cameras import Cameras, spherical

DIRECTIONS = ("plain", "front", "back", "overhead", "side")
"""The order of a prior's prompts; the first is of no direction, and stands for those that have no prompt of their own."""


@dataclass(frozen=True)
class ViewDirections:
    """Thresholds in degrees (threestudio; 30 in 4D-fy and Dream-in-4D)."""

    front: float = 30.0
    back: float = 30.0
    overhead: float = 60.0

    def pick(self, cameras: Cameras) -> list[int]:
        """The index into `DIRECTIONS` of every camera."""
        azimuth, elevation, _ = spherical(cameras.camera_to_world)
        return [self._one(math.degrees(a), math.degrees(e)) for a, e in zip(azimuth.tolist(), elevation.tolist())]

    def _one(self, azimuth: float, elevation: float) -> int:
        if elevation > self.overhead:
            return DIRECTIONS.index("overhead")
        if abs(azimuth) < self.front:
            return DIRECTIONS.index("front")
        return DIRECTIONS.index("back") if abs(azimuth) > 180.0 - self.back else DIRECTIONS.index("side")
