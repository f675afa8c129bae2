"""Gaussians that ride on a surface whose motion is known: each is tied to a point of a mesh of fixed topology."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..geometry.rotations import matrix_to_quaternion, quaternion_product, quaternion_to_matrix
from .activation import RAW, activated
from .dynamic import DynamicGaussiansConfig
from .gaussians import SH_DC, Gaussians4D, harmonics_of

COLLAPSED = 1e-12  # twice a face's area below which it has no direction


@dataclass(frozen=True)
class Tracks:
    """What the surface does at N points over T times. anchors (T, N, 3) the points; stretches (T, N, 3, 3) what becomes of a
    small vector there since the point's own reference time; turns (T, N, 4) unit quaternions w, x, y, z of the rotation in it;
    colours (T, N, 3) sRGB; times (T,) ascending. rest (N,): each point's reference time, where its face is largest."""

    anchors: Tensor
    stretches: Tensor
    turns: Tensor
    colours: Tensor
    times: Tensor
    rest: Tensor

    def at_rest(self, name: str) -> Tensor:
        """A track's value (N, ...) at every point's own reference time."""
        return getattr(self, name)[self.rest, torch.arange(len(self.rest), device=self.rest.device)]


def tracks_of(vertices: Tensor, faces: Tensor, colours: Tensor, face: Tensor, barycentric: Tensor, times: Tensor) -> Tracks:
    """Tracks of points on moving triangles.

    vertices (T, Nv, 3), faces (Nf, 3), colours (T, N, 3) at the points; `face` (N,) and `barycentric` (N, 3) say where they are.
    Along its normal a face keeps its thickness, but shrinks with its area, so that what collapses vanishes.
    """
    corners = vertices[:, faces[face]]  # (T, N, 3 corners, 3)
    anchors = (barycentric[None, :, :, None] * corners).sum(2)
    first, second = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    normal = torch.linalg.cross(first, second)
    area = normal.norm(dim=-1)  # (T, N), twice
    rest = area.argmax(0)
    largest = area.amax(0)
    normal = functional.normalize(normal, dim=-1)
    shrunk = (area / largest.clamp_min(COLLAPSED)).sqrt()
    edges = torch.stack([first, second, normal * shrunk[..., None]], -1)  # columns
    everyone = torch.arange(len(face), device=vertices.device)
    at_rest = edges[rest, everyone]
    flat = (largest <= COLLAPSED)[:, None, None]
    eye = torch.eye(3, dtype=vertices.dtype, device=vertices.device)
    stretches = edges @ torch.linalg.inv(torch.where(flat, eye, at_rest))
    stretches = torch.where(flat, eye, stretches)
    frames = _frames(first, normal)
    turns = frames @ frames[rest, everyone].mT
    quaternions = matrix_to_quaternion(turns.flatten(0, 1)).view(*turns.shape[:2], 4).roll(1, -1)
    return Tracks(anchors, stretches, quaternions, colours, times, rest)


def _frames(first: Tensor, normal: Tensor) -> Tensor:
    """Rotations (T, N, 3, 3) whose columns are the first edge's direction, the one across and the normal; the identity on collapsed faces."""
    along = functional.normalize(first, dim=-1)
    frame = torch.stack([along, torch.linalg.cross(normal, along), normal], -1)
    eye = torch.eye(3, dtype=first.dtype, device=first.device)
    return torch.where((torch.linalg.det(frame) > 0.5)[..., None, None], frame, eye)


def discs(tracks: Tracks, normals: Tensor, spacing: float, opacity: float, degree: int) -> dict[str, Tensor]:
    """Raw parameters of flat Gaussians on the surface at each point's reference time, facing along `normals` (N, 3) there."""
    positions = tracks.at_rest("anchors")
    helper = torch.eye(3).to(positions)[normals.abs().argmin(-1)]
    along = functional.normalize(torch.linalg.cross(helper, normals), dim=-1)
    frame = torch.stack([along, torch.linalg.cross(normals, along), normals], -1)
    count = len(positions)
    logs = positions.new_tensor([spacing, spacing, 0.2 * spacing]).log().repeat(count, 1)
    return {
        "positions": positions,
        "quaternions": matrix_to_quaternion(frame).roll(1, -1),
        "log_scales": logs,
        "logits": torch.logit(positions.new_full((count,), opacity)),
        "colours": harmonics_of(tracks.at_rest("colours")),
        "details": positions.new_zeros(count, (degree + 1) ** 2 - 1, 3),
    }


class RidingGaussians(nn.Module):
    """N Gaussians with raw parameters at their reference times, carried by `tracks` to any other; none may be added or removed.

    It has what a construction asks of dynamic Gaussians. Between two times of the tracks it is interpolated, beyond them held.
    """

    kind = "riding gaussians"
    deformation = None

    def __init__(self, raw: dict[str, Tensor], tracks: Tracks, degree: int = 0):
        super().__init__()
        self.config = DynamicGaussiansConfig(degree, None)
        for name, value in vars(tracks).items():
            self.register_buffer(f"track_{name}", value.detach().clone(), persistent=False)
        self.register_buffer("rest_anchors", tracks.at_rest("anchors").clone(), persistent=False)
        self.register_buffer("rest_colours", tracks.at_rest("colours").clone(), persistent=False)
        self.set_raw(raw)

    @property
    def count(self) -> int:
        """N."""
        return self.positions.shape[0]

    def raw(self) -> dict[str, nn.Parameter]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in RAW}

    def set_raw(self, values: dict[str, Tensor]) -> None:
        """Replace the parameters, for as many Gaussians as there are tracks."""
        assert len(values["positions"]) == len(self.rest_anchors), "Gaussians that ride can not become more or fewer"
        for name in RAW:
            setattr(self, name, nn.Parameter(values[name].detach().clone().contiguous()))

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """All parameters are static: how they move is known."""
        return {"static": list(self.raw().values()), "dynamic": [], "decoder": [], "material": [], "background": []}

    def clone(self) -> "RidingGaussians":
        """An independent copy with the same values."""
        return copy.deepcopy(self).requires_grad_(True)

    def at(self, times: Tensor, moving: bool = True) -> Gaussians4D:
        """The Gaussians at `times` (M,) in [0, 1]; `moving` changes nothing, since the motion is no guess."""
        anchors, stretches, turns, colours = self._tracks_at(times)
        local = (self.positions - self.rest_anchors)[None, :, :, None]
        still = activated(self.raw())
        axes = stretches @ quaternion_to_matrix(still["rotations"].roll(-1, -1))  # (M, N, 3, 3), columns
        harmonics = still["harmonics"].expand(len(times), *still["harmonics"].shape)
        change = ((colours - self.rest_colours) / SH_DC)[:, :, None]  # (M, N, 1, 3)
        return Gaussians4D(
            positions=anchors + (stretches @ local)[..., 0],
            rotations=functional.normalize(quaternion_product(turns, still["rotations"].expand_as(turns)), dim=-1),
            scales=(still["scales"] * axes.norm(dim=-2)).clamp_min(1e-8),
            opacities=still["opacities"][None],
            harmonics=torch.cat([harmonics[:, :, :1] + change, harmonics[:, :, 1:]], 2),
            times=times,
        )

    def bake(self, frames: int) -> Gaussians4D:
        """The Gaussians at `frames` times i / (T - 1), as values on the CPU that nothing else holds."""
        times = torch.arange(frames, device=self.positions.device) / max(frames - 1, 1)
        return Gaussians4D(*(value.detach().cpu().clone() for value in vars(self.at(times)).values()))

    def _tracks_at(self, times: Tensor) -> list[Tensor]:
        """Anchors, stretches, turns and colours (M, N, ...) at `times` (M,)."""
        known = self.track_times
        right = torch.searchsorted(known, times.to(known).contiguous()).clamp(1, max(len(known) - 1, 1))
        left, right = right - 1, right.clamp(max=len(known) - 1)
        share = ((times - known[left]) / (known[right] - known[left]).clamp_min(1e-12)).clamp(0, 1)
        mixed = []
        for name in ("anchors", "stretches", "turns", "colours"):
            before, after = getattr(self, f"track_{name}")[left], getattr(self, f"track_{name}")[right]
            if name == "turns":
                after = torch.where((before * after).sum(-1, keepdim=True) < 0, -after, after)
            mixed.append(torch.lerp(before, after, share.view(-1, *[1] * (before.dim() - 1))))
        mixed[2] = functional.normalize(mixed[2], dim=-1)
        return mixed
