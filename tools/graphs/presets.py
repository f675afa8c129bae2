"""Named sets of values for the shipped workflows. They set widgets that everybody can see, and nothing else.

`python tools/write_workflows.py` writes them into the workflows; the browser offers them on a right click on the canvas, and
`launch.py run NAME --preset NAME` applies them. Where a paper and its published code disagree, "paper" and "code" set the places
where they do; the memory presets touch only what is exact, so that they go with either.
"""

EXACT = "Exact: the gradients stay the same."


def memory(stages: list[str], videos: list[str], others: list[str]) -> dict:
    """The three memory presets of a graph with these stages and guidance nodes, of video models and of others."""

    def values(video: bool, other: bool, block: int) -> dict:
        found = {f"{title}.save_memory": video for title in videos} | {f"{title}.save_memory": other for title in others}
        return found | {f"{title}.block": block for title in stages}

    return {
        "12 GB": {
            "about": f"Pictures are encoded one by one, and a term is kept for eight steps, so that models take turns in memory without being exchanged at each. {EXACT}",
            "set": values(True, True, 8),
        },
        "24 GB": {"about": f"Frames of videos are encoded one by one; models stay where there is room. {EXACT}", "set": values(True, False, 1)},
        "80 GB": {"about": f"Everything at once, as the published code; the fastest where it fits. {EXACT}", "set": values(False, False, 1)},
    }


FOURDFY = {
    "paper": {
        "about": "4D-fy as the paper says: 10,000 steps in stage 2; noise levels of stage 1 from [0.02, 0.98] to [0.02, 0.5] over 5,000 steps.",
        "set": {"Optimize stage 2.steps": 10000, "Multi-view, stage 1.t_min_start": 0.02, "Multi-view, stage 1.t_min_end": 0.02, "Multi-view, stage 1.anneal_until": 0.5},
    },
    "code": {
        "about": "4D-fy as its published code: 25,000 steps in stage 2; noise levels of stage 1 move at both ends, over 8,000 steps.",
        "set": {"Optimize stage 2.steps": 25000, "Multi-view, stage 1.t_min_start": 0.98, "Multi-view, stage 1.t_min_end": 0.02, "Multi-view, stage 1.anneal_until": 0.8},
    },
    "shorter motion": {
        "about": "40,000 steps in stage 3: the authors say that little is lost.",
        "set": {"Optimize stage 3.steps": 40000},
    },
    "more motion": {
        "about": "Video weight 0.5 in the place of 0.1, which gives little motion early; 0.3 to 1 gives more.",
        "set": {"Video, stage 3.weight": 0.5},
    },
    **memory(["Stage 1", "Stage 2", "Stage 3"], ["Video, stage 3"], ["Multi-view, stage 1", "Multi-view, stage 2", "Multi-view, stage 3", "Image, stage 2", "Image, stage 3"]),
}
DREAM_IN_4D = {
    "paper": {
        "about": "Dream-in-4D as the paper says: image and views weigh the same, renders of 144 x 72, constant learning rates.",
        "set": {"Image, static.weight": 1.0, "Multi-view, static.weight": 1.0, "Video, motion.height": 72, "Stage 2.halve_rates_at": ""},
    },
    "code": {
        "about": "Dream-in-4D as its published code: views weigh twice as much, renders of 144 x 80, learning rates halved at 8,000 and 9,000 steps.",
        "set": {"Image, static.weight": 1.0, "Multi-view, static.weight": 2.0, "Video, motion.height": 80, "Stage 2.halve_rates_at": "0.8, 0.9"},
    },
    **memory(["Stage 1", "Stage 2"], ["Video, motion"], ["Multi-view, static", "Image, static"]),
}
TEXT_TO_4D_DEMO = {
    "quick look": {
        "about": "Half of the steps: softer, in half of the time.",
        "set": {"Optimize stage 1.steps": 45, "Optimize stage 2.steps": 23, "Optimize stage 3.steps": 280, "Polish.steps": 96},
    },
    "demo": {
        "about": "The values that the graph comes with.",
        "set": {"Optimize stage 1.steps": 90, "Optimize stage 2.steps": 45, "Optimize stage 3.steps": 560, "Polish.steps": 192},
    },
}
PRESETS = {
    "text_to_4d_demo": TEXT_TO_4D_DEMO,
    "text_to_4d_4dfy": FOURDFY,
    "text_to_4d_dream_in_4d": DREAM_IN_4D,
    "image_to_4d": {
        "small object": {
            "about": "The still object is shown one and a half times as large while it moves, as the published code does for small ones.",
            "set": {"Moving field.deformation_scale": 1.5},
        },
        "as it is": {"about": "The still object keeps its size.", "set": {"Moving field.deformation_scale": 1.0}},
        **memory(["Stage 1", "Stage 2"], ["Video, motion"], ["Views from the picture", "Image, still"]),
    },
    "personalised_4d": memory(["Stage 1", "Stage 2"], ["Video, motion"], ["Multi-view, static", "Image, static"]),
    "reanimate_4d": memory(["Stage 2"], ["Video, motion"], []),
}
