"""Any field with any renderer, guidance and prior (DESIGN 3): what belongs together runs, the rest refuses in one line."""

import copy

import pytest
import swap_matrix
from swap_matrix import CannotFeed, Graph, Prior

REMEDY = ("connect", "encode", "choose", "load", "use")


@pytest.fixture(scope="module")
def matrix_server(comfy, demo_server):
    """The suite's host with every prior's file, and a saved field for Load Field."""
    import checkpoints
    import checkpoints_video
    import synthetic

    checkpoints_video.write_zeroscope_files(demo_server.base / "models")
    folder = demo_server.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tiny_sd21.safetensors").is_file():
        synthetic.write_sd21_checkpoint(folder / "tiny_sd21.safetensors")
    checkpoints.write_mvdream_checkpoint(folder / "tiny_mvdream.safetensors", layout=checkpoints.SMALLEST)
    checkpoints.write_zero123_checkpoint(folder / "tiny_zero123.safetensors", layout=checkpoints.SMALLEST_ZERO123)
    graph = Graph(demo_server.get("/object_info"))
    graph.add("Bloom4DSaveField", {"field": [graph.feed("Bloom4DHashField"), 0], "filename_prefix": swap_matrix.OUT_OF_A_FILE.removesuffix("_00001_.safetensors")})
    demo_server.run(graph.prompt)
    assert (demo_server.base / "output" / swap_matrix.OUT_OF_A_FILE).is_file()
    return demo_server


@pytest.fixture(scope="module")
def infos(matrix_server):
    """Descriptions of the pack's nodes and of the host's that the matrix uses."""
    everything = matrix_server.get("/object_info")
    stock = {"CLIPTextEncode", *(class_type for class_type, _ in swap_matrix.STOCK_PRIORS.values())}
    return {name: info for name, info in everything.items() if info["python_module"] == "custom_nodes.bloom4d" or name in stock}


@pytest.fixture(scope="module")
def ours(infos):
    return {name: info for name, info in infos.items() if info["python_module"] == "custom_nodes.bloom4d"}


def groups(pairs) -> dict:
    """Pairs that one optimiser can run together: their terms share field, renderer and prior."""
    found = {}
    for pair in pairs:
        found.setdefault((pair.field, pair.renderer, pair.prior), []).append(pair)
    return found


def outcome(server, infos, pairs) -> str:
    """Empty when a step with these pairs ran, else the host's error."""
    graph = Graph(infos)
    graph.optimise(pairs)
    run = server.run(graph.prompt, expect=None)
    return "" if run.status == "success" else f"{run.error['exception_type']}: {run.error['exception_message'].strip()}"


def failures(server, infos, pairs) -> dict:
    """{pair: error} of pairs that should run. All in one prompt; when that fails, each for itself, so that none hides another."""
    graph = Graph(infos)
    for group in groups(pairs).values():
        graph.optimise(group)
    if server.run(graph.prompt, expect=None).status == "success":
        return {}
    return {str(pair): error for pair in pairs if (error := outcome(server, infos, [pair]))}


def test_what_belongs_together_runs_and_the_rest_refuses_in_one_line(matrix_server, infos, ours, record_property):
    pairs = swap_matrix.matrix(ours)
    together, apart = ([pair for pair in pairs if pair.fits == whole] for whole in (True, False))
    assert failures(matrix_server, infos, together) == {}
    refusals = {str(pair): outcome(matrix_server, infos, [pair]) for pair in apart}
    assert bad_refusals(refusals) == {}
    counts = [len(swap_matrix.sources(ours, kind)) for kind in ("FIELD_4D", "RENDERER_4D", "GUIDANCE_4D")]
    whole = sum(prior.is_whole for prior in swap_matrix.combinations(swap_matrix.priors(ours)))
    record_property("summary", f"swap matrix of {counts[0]} (field) x {counts[1]} (renderer) x {counts[2]} (guidance) x {whole} (prior): {len(together)} ran, {len(apart)} with a foreign VAE or CLIP, or a renderer of another kind of field, refused in one line")


def bad_refusals(refusals: dict) -> dict:
    """Refusals that are none: a run, more than a line, an error from inside a library, no word on what to change."""
    def good(error: str) -> bool:
        return error.startswith("ValueError: ") and "\n" not in error and any(word in error.lower() for word in REMEDY)

    return {pair: error or "it ran" for pair, error in refusals.items() if not good(error)}


def test_a_bad_refusal_is_found():
    fine = "ValueError: The VAE is of another model. Connect both from one loader."
    bad = {"ran": "", "long": f"{fine}\nTraceback", "torch": "RuntimeError: mat1 and mat2 shapes cannot be multiplied", "mute": "ValueError: no."}
    assert bad_refusals({"fine": fine, **bad}).keys() == bad.keys()


def test_a_new_node_joins_by_itself(ours):
    before = swap_matrix.matrix(ours)
    more = {**ours, "Bloom4DOtherField": ours["Bloom4DHashField"], "Bloom4DOtherGuidance": ours["Bloom4DSDSGuidance"]}
    after = swap_matrix.matrix(more)
    fields, renderers, guidances = (len(swap_matrix.sources(ours, kind)) for kind in ("FIELD_4D", "RENDERER_4D", "GUIDANCE_4D"))
    found = swap_matrix.combinations(swap_matrix.priors(ours))
    whole = sum(prior.is_whole for prior in found)
    asking = sum("MODEL" in swap_matrix.kinds(ours[name]) for name in swap_matrix.sources(ours, "GUIDANCE_4D"))
    size = lambda new: (guidances + new) * whole * (fields + new) * renderers + (asking + new) * (len(found) - whole)  # noqa: E731
    assert (len(before), len(after)) == (size(0), size(1))
    assert Graph(more).feed("Bloom4DOtherField")


def test_a_loader_is_left_out_only_with_a_reason(ours):
    listed = {class_type for class_type, _ in swap_matrix.priors(ours).values()}
    assert set(swap_matrix.sources(ours, "MODEL")) - listed == set(swap_matrix.ELSEWHERE) and all(swap_matrix.ELSEWHERE.values())


def test_a_node_that_cannot_be_fed_is_an_error_and_not_left_out(ours, infos):
    strange = copy.deepcopy(ours["Bloom4DHashField"])
    strange["input"]["required"]["shape"] = ("TEMPLATE_4D", {"tooltip": "an unheard-of socket"})
    graph = Graph({**infos, "Bloom4DStrangeField": strange})
    assert "Bloom4DStrangeField" in swap_matrix.sources(graph.infos, "FIELD_4D")
    with pytest.raises(CannotFeed, match=r"Bloom4DStrangeField needs \"shape\" \(TEMPLATE_4D\)"):
        graph.feed("Bloom4DStrangeField")
    loader = {**ours["Bloom4DEmbeddedPriorLoader"], "output": ["MODEL"], "display_name": "Half a prior"}
    half = Graph({**infos, "Bloom4DHalfLoader": loader})
    with pytest.raises(CannotFeed, match="makes no VAE"):
        half.feed("Bloom4DSDSGuidance", Prior("Half a prior", "Half a prior", "Half a prior"))
