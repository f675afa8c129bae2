"""P4: deferred back-propagation of a rendered picture against plain autograd: `python benchmarks/deferred.py`.

Goal: at least 10 times less memory kept, at most twice the time, the same gradient. The render alone is measured: with a
denoiser between the two passes the share of the second render only shrinks.
"""

import torch
from field_iteration import build
from measure import alternate, finish, kept_bytes, relative_error, report

from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.render.backend import flushed_denormals
from bloom4d.models.render.volume import VolumeRenderer

SIZE, VIEWS = 64, 8


def main() -> None:
    scene, renderer = build(), VolumeRenderer()
    state, cameras = renderer.new_state(scene), view_time_grid(VIEWS, 1)
    parameters = list(scene.parameters())
    origins, directions, times = cameras.rays(SIZE, SIZE)
    weights = torch.randn(VIEWS, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(2))

    def gradient(chunk):
        scene.zero_grad(set_to_none=True)
        (renderer.render_views(scene, state, cameras, SIZE, SIZE, seed=3, chunk=chunk).rgb * weights).sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in parameters])

    def largest(pieces):
        """What the backward pass keeps at once: one chunk's graph."""
        parts = [[values[start::pieces] for values in (origins, directions, times)] for start in range(pieces)]
        return max(kept_bytes(lambda part=part: renderer.render(scene, state, *part), parameters) for part in parts)

    whole, everything = gradient(0), kept_bytes(lambda: renderer.render(scene, state, origins, directions, times), parameters)
    for pieces in (4, 16):
        chunk = len(origins) // pieces
        error = relative_error(gradient(chunk), whole)
        with flushed_denormals():
            least = alternate({"plain": lambda: gradient(0), "deferred": lambda chunk=chunk: gradient(chunk)}, rounds=4)
        report(
            f"deferred in {pieces} chunks",
            error,
            1e-5,
            ms_plain=least["plain"],
            ms_deferred=least["deferred"],
            time_ratio=least["deferred"] / least["plain"],
            megabytes_plain=everything / 2**20,
            megabytes_deferred=largest(pieces) / 2**20,
            memory_ratio=everything / largest(pieces),
        )
    finish()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
