"""Named sets of values for the shipped workflows. They set widgets that everybody can see, and nothing else.

`python tools/write_workflows.py` writes them into the workflows; the browser offers them on a right click on the canvas, and
`launch.py run NAME --preset NAME` applies them. Where a paper and its published code disagree, "paper" and "code" set the places
where they do; the memory presets touch only what is exact, so that they go with either.
"""

EXACT = "Exact: the gradients stay the same. The memory of these models was not measured yet."


def memory(videos: list[str], others: list[str] = (), drawing: list[str] = ()) -> dict:
    """The three memory presets of a graph with these guidance nodes, of video models and of others.

    drawing: the Stages that draw a term per step; those that add their terms up need all models at every step.
    """

    def values(video: bool, other: bool, block: int) -> dict:
        found = {f"{title}.save_memory": video for title in videos} | {f"{title}.save_memory": other for title in others}
        return found | {f"{title}.block": block for title in drawing}

    turns = ", and a term is kept for eight steps, so that models take turns in memory without being exchanged at each" if drawing else ""
    small = f"Every picture is encoded by itself{turns}." if others else "As 24 GB, since no other model judges pictures here."
    added = "" if drawing or not others else " A stage adds its terms up: models that do not fit together are exchanged at every step."
    return {
        "12 GB": {"about": f"For little memory. {small}{added} {EXACT}", "set": values(True, True, 8)},
        "24 GB": {"about": f"Frames of videos are encoded one by one; other pictures and models together where there is room. {EXACT}", "set": values(True, False, 1)},
        "80 GB": {"about": f"Everything at once, as the published code; the fastest where it fits. {EXACT}", "set": values(False, False, 1)},
    }


FOURDFY = {
    "paper": {
        "about": "4D-fy as the paper says: 10,000 steps in stage 2, views always four of 256 x 256, noise levels of stage 1 from [0.02, 0.98] to [0.02, 0.5] over 5,000 steps, of pictures [0.02, 0.5] throughout.",
        "set": {
            "Multi-view, stage 1.coarse_until": 0.0, "Multi-view, stage 1.t_min_start": 0.02, "Multi-view, stage 1.anneal_until": 0.5,
            "Optimize stage 2.steps": 10000, "Multi-view, stage 2.coarse_until": 0.0, "Image, stage 2.t_max_start": 0.5, "Stage 2.opaque": 0.0,
        },
    },
    "code": {
        "about": "4D-fy as its published code: 25,000 steps in stage 2, small renders of views for the first 5,000 steps of stages 1 and 2, noise levels of stage 1 that move at both ends over 8,000 steps, of pictures up to 0.98 for 5,000, opacity entropy after 10,000 steps.",
        "set": {
            "Multi-view, stage 1.coarse_until": 0.5, "Multi-view, stage 1.coarse_factor": 0.25, "Multi-view, stage 1.coarse_scenes": 2,
            "Multi-view, stage 1.t_min_start": 0.98, "Multi-view, stage 1.anneal_until": 0.8,
            "Optimize stage 2.steps": 25000, "Multi-view, stage 2.coarse_until": 0.2, "Multi-view, stage 2.coarse_factor": 0.25,
            "Image, stage 2.t_max_start": 0.98, "Image, stage 2.anneal_from": 0.2, "Image, stage 2.anneal_until": 0.2,
            "Stage 2.opaque": 1000.0, "Stage 2.opaque_schedule": "0, 0.4, 0.4",
        },
    },
    "shorter motion": {
        "about": "The first 40,000 steps of stage 3: the authors say that little is lost. The opacity entropy still comes at 10,000 steps, and the ball grows as fast as before.",
        "set": {"Optimize stage 3.steps": 40000, "Stage 3.opaque_schedule": "0, 0.25, 0.25", "Stage 3.blob_until": 1.0, "Stage 3.blob_end": 4.1},
    },
    "more motion": {
        "about": "Video weight 0.5 in the place of 0.1, which gives little motion early; 0.3 to 1 gives more.",
        "set": {"Video, stage 3.weight": 0.5},
    },
    **memory(["Video, stage 3"], ["Multi-view, stage 1", "Multi-view, stage 2", "Multi-view, stage 3", "Image, stage 2", "Image, stage 3"], ["Stage 2", "Stage 3"]),
}  # fmt: skip
MOTION = {
    "paper": {"Video, motion.height": 72, "Stage 2.halve_rates_at": ""},
    "code": {"Video, motion.height": 80, "Stage 2.halve_rates_at": "0.8, 0.9"},
}
"""Where Dream-in-4D's paper (its text; its supplement says 144 x 80) and code differ in the stage of motion."""

ASSET = {
    "paper": {"Image, static.weight": 1.0, "Multi-view, static.weight": 1.0, "Field.background.width": 64, "Field.background_layers": 3},
    "code": {"Image, static.weight": 1.0, "Multi-view, static.weight": 2.0, "Field.background.width": 16, "Field.background_layers": 2},
}
DREAM_IN_4D = {
    "paper": {
        "about": "Dream-in-4D as the paper says: image and views weigh the same (some prompts: 1.2 to 1), a background of three layers of 64, renders of 144 x 72 (its supplement: 144 x 80), constant learning rates.",
        "set": {**ASSET["paper"], **MOTION["paper"]},
    },
    "code": {
        "about": "Dream-in-4D as its published code: views weigh twice as much, a background of two layers of 16, renders of 144 x 80, learning rates halved at 8,000 and 9,000 steps.",
        "set": {**ASSET["code"], **MOTION["code"]},
    },
    **memory(["Video, motion"], ["Multi-view, static", "Image, static"]),
}
RANDOM_VIEWS = ("Views from the picture", "Image, still")
IMAGE_TO_4D = {
    "paper": {
        "about": "Dream-in-4D from a picture as the paper says, which is its static stage with other models: 10,000 steps, eight views of 64 x 64, then four of 256 x 256, weight decay, 0.001 for networks; renders of 144 x 72 (supplement: 144 x 80), constant rates. What only the code says keeps its steps.",
        "set": {
            "Optimize stage 1.steps": 10000, "Stage 1.rate_decoder": 1e-3, "Stage 1.weight_decay": 0.01,
            **{f"{title}.{name}": value for title in RANDOM_VIEWS for name, value in (("coarse_until", 0.5), ("coarse_scenes", 8), ("half_until", 0.0), ("scenes", 4))},
            "Views from the picture.anneal_until": 0.02, "The picture, still.quarter_until": 0.02, "The picture, still.half_until": 0.03,
            "Moving field.deformation_scale": 1.0, **MOTION["paper"],
        },
    },
    "code": {
        "about": "Dream-in-4D from a picture as its published code: 2,000 steps, 12 views of 64, 4 of 128 and 2 of 256 pixels from steps 0, 200 and 300, no weight decay; the object shown 1.5 times as large while it moves, renders of 144 x 80, rates halved at 8,000 and 9,000 steps.",
        "set": {
            "Optimize stage 1.steps": 2000, "Stage 1.rate_decoder": 1e-2, "Stage 1.weight_decay": 0.0,
            **{f"{title}.{name}": value for title in RANDOM_VIEWS for name, value in (("coarse_until", 0.1), ("coarse_scenes", 12), ("half_until", 0.15), ("half_scenes", 4), ("scenes", 2))},
            "Views from the picture.anneal_until": 0.1, "The picture, still.quarter_until": 0.1, "The picture, still.half_until": 0.15,
            "Moving field.deformation_scale": 1.5, **MOTION["code"],
        },
    },
    "small object": {
        "about": "The still object is shown one and a half times as large while it moves, as the published code does for small ones.",
        "set": {"Moving field.deformation_scale": 1.5},
    },
    "as it is": {"about": "The still object keeps its size.", "set": {"Moving field.deformation_scale": 1.0}},
    **memory(["Video, motion"], RANDOM_VIEWS),
}  # fmt: skip
REANIMATE_4D = {
    "paper": {"about": "The motion of Dream-in-4D as the paper says: renders of 144 x 72 (its supplement: 144 x 80), constant learning rates.", "set": MOTION["paper"]},
    "code": {"about": "The motion of Dream-in-4D as its published code: renders of 144 x 80, learning rates halved at 8,000 and 9,000 steps.", "set": MOTION["code"]},
    **memory(["Video, motion"]),
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
    "image_to_4d": IMAGE_TO_4D,
    "personalised_4d": DREAM_IN_4D,
    "reanimate_4d": REANIMATE_4D,
}
