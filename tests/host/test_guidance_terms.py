"""Every kind of guidance term and option in one stage of the running host, on the demo prior."""

from safetensors import safe_open
from swap_matrix import Graph, Prior

OPTIONS = {"decoded_weight": 0.1, "denoising_steps": 3, "antithetic": True, "anneal_from": 0.5, "weighting": "recon"}
DEMO = Prior("Embedded Prior Loader", "Embedded Prior Loader", "Embedded Prior Loader")


def stage_of_everything(server) -> tuple[Graph, str]:
    """SDS with Perp-Neg (two negatives, one for the back), several steps and decoded pictures; a reference; a redrawn video."""
    graph = Graph(server.get("/object_info"))
    words = lambda text: [graph.add("CLIPTextEncode", {"clip": graph.link(graph.loader(DEMO.clip), "CLIP"), "text": text}), 0]  # noqa: E731
    image = graph.feed("Bloom4DSDSGuidance", DEMO)
    two = graph.add("ConditioningCombine", {"conditioning_1": words("a candle"), "conditioning_2": words("bread")})
    graph.prompt[image]["inputs"] |= {**OPTIONS, "skip_azimuth": 145, "negative": [two, 0]}
    apart = graph.add("Bloom4DPerpNeg", {"guidance": [image, 0], "unconditional": words(""), "strength": 1.5, "negative_back": [two, 0]})
    views = graph.feed("Bloom4DMultiViewGuidance", DEMO)
    graph.prompt[views]["inputs"] |= OPTIONS
    video = graph.feed("Bloom4DVideoRefinementLoss", DEMO)
    terms = [apart, views, graph.feed("Bloom4DReferenceViewLoss"), video]
    stage = graph.add("Bloom4DStage", {**graph._defaults("Bloom4DStage"), "rate_dynamic": 0.01, **{f"terms.term{index}": [term, 0] for index, term in enumerate(terms)}})
    fields = {"field": [graph.feed("Bloom4DHashField"), 0], "stage": [stage, 0], "renderer": [graph.feed("Bloom4DVolumeRenderer"), 0]}
    values = {**graph._defaults("Bloom4DHybridSDSOptimizer"), "steps": 2, "filename_prefix": "terms", "preview_interval": 0}
    optimiser = graph.add("Bloom4DHybridSDSOptimizer", {**values, **fields})
    graph.add("Bloom4DSaveField", {"field": [optimiser, 0], "filename_prefix": "bloom4d/fields/terms"})
    graph.add("Bloom4DTrainingCurves", {"run": "", "field": [optimiser, 0]})
    return graph, optimiser


def test_all_terms_run_together_in_the_host(demo_server):
    graph, optimiser = stage_of_everything(demo_server)
    run = demo_server.run(graph.prompt)
    assert optimiser in set(run.executed) | run.cached
    saved = sorted((demo_server.base / "output" / "bloom4d" / "fields").glob("terms_*.safetensors"))[-1]
    with safe_open(saved, "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    field = [value for name, value in tensors.items() if "history" not in name]
    losses = next(value for name, value in tensors.items() if name.endswith("loss"))
    assert field and all(bool(value.isfinite().all()) for value in field)
    assert len(losses) == 2 * 4 and bool(losses.isfinite().all())  # both steps, each of the four terms
