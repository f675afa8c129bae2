"""Rooms: web -> nodes -> models, one direction only, and an order inside models."""

import pytest
from rooms import imports, pack_imports, problems


def test_pack_keeps_to_its_rooms():
    assert problems(pack_imports()) == []


@pytest.mark.parametrize(("file", "line"), [
    ("models/fields/planes.py", "import comfy.ops"),
    ("models/fields/planes.py", "def f():\n    import folder_paths"),
    ("models/fields/planes.py", "from ...nodes import sockets"),
    ("models/fields/planes.py", "from ..render import volume"),
    ("models/fields/planes.py", "from ..gaussians import container"),
    ("models/geometry/rays.py", "from ..formats import ply"),
    ("models/optimize/loop.py", "from ..data import objects"),
    ("models/guidance/sds.py", "from bloom4d.models.data import objects"),
    ("models/fields/planes.py", "import skimage"),
    ("models/geometry/isosurface.py", "import skimage"),
    ("models/fields/planes.py", "def f():\n    import warp"),
    ("models/render/fast.py", "def f():\n    import warp"),
    ("models/render/fast.py", "from .kernels import hash_grid"),
    ("models/render/fast.py", "from . import kernels"),
    ("models/render/kernels/fast.py", "import gsplat"),
    ("models/fields/planes.py", "import requests"),
    ("__init__.py", "import comfy"),
])
def test_every_forbidden_import_is_found(file, line):
    assert len(problems(imports(line, file))) == 1


@pytest.mark.parametrize(("file", "line"), [
    ("nodes/host/score.py", "import comfy.samplers\nfrom ...models.guidance import sds\nfrom .. import sockets"),
    ("models/optimize/loop.py", "from ..guidance.sds import gradient\nfrom . import stages\nimport torch, math"),
    ("models/geometry/isosurface.py", "def f():\n    from skimage import measure"),
    ("models/data/objects.py", "from ..render.mesh import rasterise"),
])
def test_allowed_imports_pass(file, line):
    assert problems(imports(line, file)) == []
