"""CLIP and AlexNet with random weights in the layout of the public files, and the CLIP protocol in transformers' own words."""

from functools import cache

import numpy
import torch
from PIL import Image
from torch import Generator

SIDE = 32


def tiny_clip(activation="quick_gelu", width=64, seed=0):
    """transformers' own CLIPModel, randomly filled."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": width // 64, "projection_dim": 24, "hidden_act": activation}
    model = CLIPModel(CLIPConfig(projection_dim=24, text_config={**tower, "vocab_size": 49408}, vision_config={**tower, "image_size": SIDE, "patch_size": 8}))
    generator = Generator().manual_seed(seed)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.2, generator=generator)
    return model.eval()


def frames(count=3, height=40, width=56):
    pixels = (torch.rand(count, 3, 5, 7, generator=Generator().manual_seed(5)) * 255).round() / 255
    return torch.nn.functional.interpolate(pixels, (height, width))


@torch.no_grad()
def by_hand(model, tokenizer, pictures, prompt):
    """The protocol in transformers' words: PIL pictures, its processor, its own text and picture features."""
    from transformers import CLIPImageProcessor, CLIPTokenizer

    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    shown = [Image.fromarray((picture.movedim(0, -1).numpy() * 255).round().astype(numpy.uint8)) for picture in pictures]
    words = CLIPTokenizer.from_pretrained(str(tokenizer), local_files_only=True)(prompt, return_tensors="pt")
    seen = model(**words, **processor(images=shown, return_tensors="pt"))
    return torch.stack([100 * torch.nn.functional.cosine_similarity(image, seen.text_embeds[0], 0) for image in seen.image_embeds]).mean().item()


@cache
def classifier(backbone="alex"):
    """torchvision's network with random weights: the layout of the public file."""
    import torchvision.models

    network = {"alex": torchvision.models.alexnet, "squeeze": torchvision.models.squeezenet1_1}[backbone](weights=None)
    generator = Generator().manual_seed(3)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.05, generator=generator)
    return network


def linear(backbone):
    from bloom4d.models.metrics import perceptual

    return torch.load(perceptual.packaged_linear_file(backbone), map_location="cpu", weights_only=True)
