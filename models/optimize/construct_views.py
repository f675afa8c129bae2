"""Which pictures a construction looks at in a step, and how all of them are drawn in one call."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians.dynamic import DynamicGaussians
from ..gaussians.gaussians import Gaussians4D
from ..geometry.cameras import Cameras, look_at
from ..guidance.seeds import generator
from ..render.splats import SplatViews, rasterise, sh_colours
from .footage import Footage, stratified


@dataclass(frozen=True)
class Batch:
    """B pictures of one size: premultiplied `rgb` (B, H, W, 3), or over white where `alpha` (B, H, W) is not `known` (B,);
    cameras with the times that they show; `driving` (B,): frames of the driving video."""

    rgb: Tensor
    alpha: Tensor
    known: Tensor
    cameras: Cameras
    driving: Tensor

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def over_white(self) -> Tensor:
        """(B, H, W, 3)."""
        return self.rgb + torch.where(self.known[:, None, None], 1.0 - self.alpha, 0.0)[..., None]

    def parts(self, most: int) -> list["Batch"]:
        """The same pictures, at most `most` at a time; 0 is all."""
        if not 0 < most < len(self):
            return [self]
        return [self._part(slice(start, start + most)) for start in range(0, len(self), most)]

    def _part(self, part) -> "Batch":
        return Batch(self.rgb[part], self.alpha[part], self.known[part], self.cameras.select(part), self.driving[part])


class Pool:
    """All footage of a construction; pictures are picked by the step alone."""

    def __init__(self, footages: list[Footage], driving: Footage | None):
        self.footages = [*footages, *([driving] if driving is not None else [])]
        times = [item.times.tolist() for item in self.footages]
        still, moving = ([number for number, item in enumerate(footages) if item.static == kind] for kind in (True, False))
        self.members = {"still": self._members(still), "moving": self._members(moving), "driving": self._members([len(footages)] if driving is not None else [])}
        self.times = {kind: torch.tensor([times[number][frame] for number, frame in members]) for kind, members in self.members.items()}
        self.orders: dict[tuple, Tensor] = {}

    def pick(self, seed: int, step: int, pictures: int, still_share: float, driving: int) -> list[Batch]:
        """The step's pictures, grouped by their size: `pictures` of the footage, of which `still_share` still ones, and frames
        of the driving video. Each kind passes through all its times before it returns to one."""
        share = still_share if self.members["moving"] else 1.0
        share = share if self.members["still"] else 0.0
        still = [math.floor(number * pictures * share) for number in (step, step + 1)]
        moving = [step * pictures - still[0], (step + 1) * pictures - still[1]]
        driven = [step * driving, (step + 1) * driving] if self.members["driving"] else [0, 0]
        ranges = {"still": still, "moving": moving, "driving": driven}
        chosen = [(kind, *self._at(kind, place, seed)) for kind, places in ranges.items() for place in range(*places)]
        sizes = dict.fromkeys(self.footages[number].size for _, number, _ in chosen)
        return [self._batch([item for item in chosen if self.footages[item[1]].size == size]) for size in sizes]

    def _members(self, numbers: list[int]) -> list[tuple[int, int]]:
        return [(number, frame) for number in numbers for frame in range(len(self.footages[number]))]

    def _at(self, kind: str, place: int, seed: int) -> tuple[int, int]:
        """(footage, frame) at a place of the endless sequence of one kind of pictures."""
        members = self.members[kind]
        epoch, within = divmod(place, len(members))
        key = (kind, epoch)
        if key not in self.orders:
            self.orders = {other: order for other, order in self.orders.items() if other[0] != kind}
            self.orders[key] = stratified(self.times[kind], generator(seed, "order", kind, epoch))
        return members[int(self.orders[key][within])]

    def _batch(self, chosen: list[tuple[str, int, int]]) -> Batch:
        items = [(self.footages[number], frame) for _, number, frame in chosen]
        take = lambda of: torch.stack([of(item, frame) for item, frame in items])  # noqa: E731
        rgb = take(lambda item, frame: item.rgb[frame])
        alpha = take(lambda item, frame: item.rgb.new_ones(item.size) if item.alpha is None else item.alpha[frame])
        cameras = Cameras(
            take(lambda item, frame: item.cameras.camera_to_world[frame]), take(lambda item, frame: item.cameras.fov_y[frame]), take(lambda item, frame: item.times[frame])
        )
        flags = lambda values: torch.tensor(values, device=rgb.device)  # noqa: E731
        return Batch(rgb, alpha, flags([item.alpha is not None for item, _ in items]), cameras, flags([kind == "driving" for kind, _, _ in chosen]))


def draw(gaussians: Gaussians4D, cameras: Cameras, height: int, width: int, screen: Tensor | None = None) -> SplatViews:
    """Pictures of Gaussians whose frame i belongs to camera i; `screen` (B, N, 2) receives the gradients of their 2D means."""
    shown = {name: value.expand(len(cameras), *value.shape[1:]) for name, value in gaussians.attributes().items()}
    directions = functional.normalize(shown["positions"] - cameras.camera_to_world[:, None, :3, 3], dim=-1)
    colours = sh_colours(shown.pop("harmonics"), directions)
    return rasterise(*shown.values(), colours, cameras.camera_to_world, cameras.fov_y, height, width, screen_gradients=screen)


def patch_cameras(gaussians: DynamicGaussians, like: Cameras, height: int, count: int, side: int, draws: torch.Generator) -> Cameras:
    """Cameras of `count` patches of side x side pixels, as fine as pictures of `height` pixels from `like`: from random
    directions, each aimed at a random Gaussian, at random times. A patch off the middle of a picture is one that is aimed at."""
    device = like.fov_y.device
    chosen = torch.randint(gaussians.count, (count,), generator=draws).to(device)
    directions = functional.normalize(torch.randn(count, 3, generator=draws), dim=-1).to(device)
    times = torch.rand(count, generator=draws).to(device)
    target = gaussians.positions.detach()[chosen]
    distance = like.camera_to_world[:, :3, 3].norm(dim=-1).mean()
    fov = 2.0 * torch.atan(torch.tan(0.5 * like.fov_y.mean()) * (side / height))
    return Cameras(look_at(target + distance * directions, target), fov.expand(count), times)
