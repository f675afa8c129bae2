"""The types that travel between our nodes and that the host does not have.

Everything else is a host type: MODEL, CLIP, VAE, CONDITIONING, IMAGE, MASK, MESH, VIDEO, LOSS_MAP. Values are shared by the
host's cache between prompts, so a node never changes one that it receives.
"""

from comfy_api.latest import io

FIELD_4D = io.Custom("FIELD_4D")
"""An optimisable scene with its configuration and the history of the stages that made it: (x, t) -> density and colour, or
Gaussians that move.

Optimisers chain: field in, new field out. Rests on the CPU between nodes. Turned into pictures by Render Field, into a host
MESH batch by Isosurface, into a file by Save Field.
"""

RENDERER_4D = io.Custom("RENDERER_4D")
"""A frozen configuration of what turns a scene into pictures; it holds no tensor. An optimiser without one
renders volumes, and Gaussians as splats."""

GUIDANCE_4D = io.Custom("GUIDANCE_4D")
"""One term of a loss: a prior (host MODEL, VAE, conditioning), its weight, camera sampler, resolution and noise schedule."""

STAGE_4D = io.Custom("STAGE_4D")
"""A list of terms with the probability of each, steps, and learning rates and freezing by parameter role."""

CAMERAS_4D = io.Custom("CAMERAS_4D")
"""A camera sampler (distributions, for optimising) or a camera path (a fixed sequence of cameras and times, for rendering).

World: Y up, front +Z, azimuth 0 on +Z growing towards +X; camera-to-world (N, 4, 4) in OpenGL axes; times in [0, 1].
"""

SCORES_4D = io.Custom("SCORES_4D")
"""The scores of one result (`models/metrics/scores.py: Scores`): a label, numbers by name, notes on how they were measured."""

GAUSSIANS_4D = io.Custom("GAUSSIANS_4D")
"""3D Gaussians over time (`models/gaussians/gaussians.py: Gaussians4D`), activated, in our frame, on the CPU.

Turned into a host SPLAT batch (B = time) by Gaussians to Splat, into pictures by Render Gaussians, into files by Save 4D.
"""
