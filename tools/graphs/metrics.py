"""4D Metrics and Ablation Table on objects whose faults are known, so that everybody sees what each score finds."""

from .builder import Graph

NAME = "four_d_metrics_demo"
PROMPT = "a red rose withering"
TIMES, VIEWS, SIZE = 6, 4, 128
OBJECT = {"phenomenon": "flower withering", "species": "rose", "colour": "red", "times": TIMES, "views": VIEWS, "size": SIZE}

ABOUT = """## What the scores find

Press **Run**; it takes seconds and needs no model. One withering rose is measured against another of its kind, and then four ways to ruin it:

- **blurred**: sharpness falls,
- **frozen**: motion is 0 and the recogniser finds no order of times,
- **one face all around**: the front view from every side; multi-face and hull say so,
- **another object**: a loaf of bread; the recogniser calls it by its name.

**4D Metrics** takes pictures in the order times x views, all views of the first time first, as Render Field and Procedural 4D Object give them. To measure your own result, connect Render Field's image, mask and cameras. The reference is optional: without it the relative scores are left out.

**Ablation Table** puts results side by side; the best value of each score is green. Table, JSON and Markdown are in ComfyUI's output folder under `bloom4d`.

No single score is enough: PSNR rewards blur, the CLIP score does not see a second face, a frozen object never flickers. The CLIP score and LPIPS appear when their files are there; the help pages (select a node, press i) name them."""

BLUE, GREEN, RED, GREY = "#3a5068", "#3f5a3c", "#684040", "#4a4a4a"


def build() -> Graph:
    graph = Graph(ABOUT)
    graph.group("What it should be", BLUE)
    prompt = graph.add("PrimitiveStringMultiline", "Prompt", value=PROMPT)
    real = graph.add("Bloom4DProcedural4DObject", "Reference", seed=1, **OBJECT)
    kin = graph.add("Bloom4DProcedural4DObject", "Another of its kind", seed=2, **OBJECT)
    results = {"another of its kind": (kin[0], kin[1]), **add_ruins(graph, kin)}
    add_table(graph, add_metrics(graph, results, real, prompt), results)
    return graph


def add_ruins(graph: Graph, kin) -> dict:
    """Name -> (images, mask) of the ruined objects, by nodes of the host."""
    graph.group("Four ways to ruin it", RED)
    plain = graph.add("MaskToImage", "Mask as pictures", mask=kin[1])
    ruins = {"blurred": [graph.add("ImageBlur", f"Blur the {name}", image=source, blur_radius=3, sigma=1.0)[0] for name, source in (("pictures", kin[0]), ("masks", plain[0]))]}
    graph.column()
    ruins["frozen"] = [frozen(graph, name, source) for name, source in (("pictures", kin[0]), ("masks", plain[0]))]
    graph.column()
    front = graph.add("Bloom4DProcedural4DObject", "Front view", seed=2, **{**OBJECT, "views": 1})
    mask = graph.add("MaskToImage", "Mask of the front view", mask=front[1])
    ruins["one face all around"] = [all_around(graph, name, source) for name, source in (("pictures", front[0]), ("masks", mask[0]))]
    graph.column()
    found = {name: (images, graph.add("ImageToMask", f"Mask: {name}", image=masks, channel="red")[0]) for name, (images, masks) in ruins.items()}
    bread = {**OBJECT, "phenomenon": "bread baking", "species": "loaf", "colour": "golden"}
    other = graph.add("Bloom4DProcedural4DObject", "Another object", seed=2, **bread)
    return found | {"another object": (other[0], other[1])}


def frozen(graph: Graph, name: str, source):
    """All views of the first time, over and over."""
    first = graph.add("ImageFromBatch", f"First time: {name}", image=source, batch_index=0, length=VIEWS)
    return graph.add("RepeatImageBatch", f"Again and again: {name}", image=first[0], amount=TIMES)[0]


def all_around(graph: Graph, name: str, source):
    """Each picture `VIEWS` times before the next one: one by one through the host's lists, then together again."""
    single = graph.add("RebatchImages", f"One by one: {name}", images=source, batch_size=1)
    several = graph.add("RepeatImageBatch", f"From every side: {name}", image=single[0], amount=VIEWS)
    return graph.add("RebatchImages", f"Together: {name}", images=several[0], batch_size=TIMES * VIEWS)[0]


def add_metrics(graph: Graph, results: dict, real, prompt) -> list:
    graph.group("Scores", GREEN)
    scores = []
    for number, (name, (images, mask)) in enumerate(results.items()):
        if number % 2 == 0 and number:
            graph.column()
        given = {"images": images, "mask": mask, "reference": real[0], "reference_mask": real[1], "cameras": real[3]}
        node = graph.add("Bloom4DMetrics", f"Measure: {name}", label=name, prompt=prompt[0], filename_prefix="bloom4d/scores/demo", **given)
        scores.append(node[0])
    return scores


def add_table(graph: Graph, scores: list, results: dict):
    graph.group("Side by side", GREY)
    links = {f"scores.score{number}": link for number, link in enumerate(scores)}
    links |= {f"pictures.picture{number}": images for number, (images, _) in enumerate(results.values())}
    table = graph.add("Bloom4DAblationTable", "Table", **links, filename_prefix="bloom4d/tables/demo")
    graph.column()
    graph.add("SaveImage", "Save table", images=table[0], filename_prefix="bloom4d/tables/demo_table")
    graph.add("SaveImage", "Save plot", images=table[1], filename_prefix="bloom4d/tables/demo_plot")
