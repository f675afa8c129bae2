"""Named sets of values for the shipped workflows. They set widgets that everybody can see, and nothing else.

`python tools/write_workflows.py` writes them into the workflows; the browser offers them on a right click on the canvas, and
`launch.py run NAME --preset NAME` applies them.
"""

PRESETS = {
    "text_to_4d_demo": {
        "quick look": {
            "about": "Half of the steps: softer, in half of the time.",
            "set": {"Optimize stage 1.steps": 45, "Optimize stage 2.steps": 23, "Optimize stage 3.steps": 280, "Polish.steps": 96},
        },
        "demo": {
            "about": "The values that the graph comes with.",
            "set": {"Optimize stage 1.steps": 90, "Optimize stage 2.steps": 45, "Optimize stage 3.steps": 560, "Polish.steps": 192},
        },
    },
}
