"""Rules that hold in every source file, each with code that must be caught."""

import pytest
from rooms import ROOT, pack_files
from source_rules import conduct_problems, length_problem, source_files, style_problems


def over_pack(check) -> list[str]:
    return [line for path in pack_files() for line in check(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())]


def test_no_dynamic_code_no_pickle_no_processes_no_network():
    assert over_pack(conduct_problems) == []


@pytest.mark.parametrize("code", ["eval(x)", "exec('a')", "import pickle", "from subprocess import run", "import os; os.system('x')",
                                  "import torch; torch.load('x')", "import urllib.request", "import requests", "__import__('x')"])
def test_forbidden_conduct_is_found(code):
    assert len(conduct_problems(code, "x.py")) == 1


@pytest.mark.parametrize("code", ["model.eval()", "torch.load('x', weights_only=True)", "import importlib; importlib.import_module('x')"])
def test_harmless_code_passes(code):
    assert conduct_problems(code, "x.py") == []


def test_house_style():
    assert over_pack(style_problems) == []


@pytest.mark.parametrize("code", ["print(1)", "x.cuda()", "torch.manual_seed(0)", "np.random.rand(3)", "try: f()\nexcept Exception: pass",
                                  "try: f()\nexcept: pass"])
def test_breaches_of_style_are_found(code):
    assert len(style_problems(code, "models/x.py")) == 1


def test_style_allows_generators_and_narrow_excepts():
    code = "torch.rand(3, generator=g)\ng.manual_seed(1)\ntry: f()\nexcept (OSError, ValueError): pass\ntorch.cuda.is_available()"
    assert style_problems(code, "models/x.py") == []
    assert style_problems("try: f()\nexcept Exception: pass", "models/render/backend.py") == []
    assert style_problems("try: f()\nexcept BaseException:\n    clean()\n    raise", "models/x.py") == []


def test_no_file_is_longer_than_the_limit():
    assert [line for path in source_files(ROOT) for line in length_problem(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))] == []


def test_a_long_file_is_found():
    assert length_problem("x\n" * 600, "x.py") and not length_problem("x\n" * 500, "x.py")
