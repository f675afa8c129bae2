"""gsplat as a backend: found without a build, asked only for what it was compiled for. Its kernels are tested on a GPU."""

import sys
from importlib import metadata

import pytest
from splat_scenes import cloud, front

from bloom4d.models.render import backend, gsplat_package, splats_gsplat, splats_torch
from bloom4d.models.render.splat_projection import SplatSettings, project

IMPORTED = "raise AssertionError('this import would start a build')"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a gsplat of one file; its import fails the test unless it is given other content."""

    def install(content=IMPORTED, compiled=False):
        (tmp_path / "gsplat").mkdir()
        (tmp_path / "gsplat" / "__init__.py").write_text(content)
        if compiled:
            (tmp_path / "gsplat" / f"csrc{gsplat_package.ENDINGS[0]}").write_bytes(b"")

    for name in [name for name in sys.modules if name.partition(".")[0] == "gsplat"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "gsplat"]:
        del sys.modules[name]


@pytest.mark.parametrize("version, alpha", [("1.5.3", 0.999), ("1.5.3+pt24cu121", 0.999), ("1.6.0", 0.99), ("1.10", 0.99), ("2.0.0rc1", 0.99), (None, 0.999)])
def test_the_largest_alpha_is_that_of_the_installed_version(monkeypatch, version, alpha):
    def look(name):
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(gsplat_package.metadata, "version", look)
    gsplat_package.installed_version.cache_clear()
    try:
        assert SplatSettings().max_alpha == alpha
        assert splats_gsplat.compiled_for(SplatSettings(max_alpha=alpha)) and not splats_gsplat.compiled_for(SplatSettings(max_alpha=0.9))
        assert not splats_gsplat.compiled_for(SplatSettings(alpha_threshold=0.01)) and not splats_gsplat.compiled_for(SplatSettings(transmittance_stop=1e-3))
        assert splats_gsplat.compiled_for(SplatSettings(dilation=0.0))  # projection is ours
    finally:
        gsplat_package.installed_version.cache_clear()


def test_a_package_without_its_compiled_module_is_not_imported(package):
    package()
    with pytest.raises(RuntimeError, match="gsplat is installed without its compiled CUDA module. Install one of"):
        gsplat_package.load()
    assert "gsplat" not in sys.modules


def test_a_package_with_its_compiled_module_is_imported(package):
    package("there = True", compiled=True)
    assert gsplat_package.load().there


def test_what_an_earlier_build_left_takes_the_place_of_a_new_build(package, tmp_path, monkeypatch):
    package("from gsplat import csrc as _C")
    library = tmp_path / "extensions" / "gsplat_cuda" / "gsplat_cuda.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    monkeypatch.setattr(gsplat_package, "_read", lambda path: (path, "read"))
    assert gsplat_package.load()._C == (library, "read")


def test_a_build_for_another_pytorch_is_an_import_error_and_no_new_build(package, tmp_path):
    package()
    library = tmp_path / "extensions" / "gsplat_cuda" / "gsplat_cuda.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"no library")
    with pytest.raises(ImportError):
        gsplat_package.load()


def test_on_the_cpu_it_is_no_choice(package, monkeypatch):
    package()
    monkeypatch.setattr(backend, "_proved", {})
    row = next(row for row in backend.rows("splats") if row.name == "gsplat")
    assert not row.usable and "CUDA devices only" in row.reason and backend.choose("splats").name != "gsplat"


def test_tiles_are_searched_as_far_as_alpha_reaches():
    scene, (pose, fov) = cloud(200, seed=3), front()
    settings = SplatSettings(max_alpha=0.999)
    splats = project(*scene, pose, fov, 40, 40, settings).splats
    pairs = splats_torch._Band(splats, (splats.centre, splats.conic, splats.opacity, splats.features), splats_torch._Picture(1, 40, 40), (0, 40), settings).pairs()
    offset = pairs.values[:2].abs()
    assert (offset <= splats_gsplat.radii(splats).t()[:, pairs.owner]).all()
