"""Toy Motion in a real ComfyUI: pictures that the host's nodes take, from a node without any input."""

import io

import numpy
from PIL import Image

TOY = {"motion": "squash", "parts": 10, "bands": False, "speed": 1.0, "seed": 1, "times": 5, "views": 1, "azimuth": 0.0, "elevation": 0.0, "size": 64}


def prompt() -> dict:
    return {"1": {"class_type": "Bloom4DToyMotion", "inputs": TOY},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 1]}},
            "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 4]}},
            "4": {"class_type": "MaskToImage", "inputs": {"mask": ["1", 2]}},
            "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}}}


def test_pictures_mask_and_caption_reach_the_hosts_nodes(server):
    run = server.run(prompt())
    pictures = [numpy.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB")) for file in run.outputs["2"]["images"]]
    assert len(pictures) == len(run.outputs["5"]["images"]) == 5
    heights = [(picture < 200).any((1, 2)).sum() for picture in pictures]
    assert heights[1] > heights[0] > heights[3]  # tall, at rest, low
    caption, = run.outputs["3"]["text"]
    assert "squashing and stretching object" in caption
