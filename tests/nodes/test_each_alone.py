"""The embedded prior as an image model on several views of a scene: each is judged as if the others were not there."""

import pytest
import torch
from prior_fixtures import write_untrained_prior

from bloom4d.models.geometry.cameras import CameraSampler


@pytest.fixture(scope="module")
def parts(comfy, tmp_path_factory):
    """MODEL, VAE and a prompt of an untrained embedded prior."""
    from bloom4d.nodes.host.prior import load_clip, load_model, load_vae

    path = str(write_untrained_prior(tmp_path_factory.mktemp("prior") / "prior.safetensors"))
    clip = load_clip(path)
    return load_model(path), load_vae(path), clip.encode_from_tokens_scheduled(clip.tokenize("a red rose blooming"))


def term(parts, **values):
    """SDS Guidance on four views, and the defaults of its widgets."""
    from bloom4d.nodes.guidance import Bloom4DSDSGuidance

    from bloom4d.nodes.cameras import Bloom4DCameraSampler

    model, vae, text = parts
    defaults = lambda node: {entry.id: entry.default for entry in node.define_schema().inputs if getattr(entry, "default", None) is not None}  # noqa: E731
    cameras = Bloom4DCameraSampler.execute(**defaults(Bloom4DCameraSampler)).result[0]
    return Bloom4DSDSGuidance.execute(**{**defaults(Bloom4DSDSGuidance), **values}, model=model, vae=vae, positive=text, negative=text, cameras=cameras).result[0]


def test_a_view_judged_alone_does_not_see_the_others(parts):
    together, alone = term(parts), term(parts, each_alone=True)
    cameras = CameraSampler(views=4).sample(torch.Generator().manual_seed(0))
    z = torch.randn(4, 96, 8, 8, generator=torch.Generator().manual_seed(1))
    estimates = {}
    for name, item in (("together", together), ("alone", alone)):
        with item.source.open() as prior, torch.inference_mode(False):
            sigma = prior.sigma_at(torch.full((4,), 0.4))
            estimates[name] = prior.denoise(z, sigma, cameras)[0]
            estimates[f"{name}, first by itself"] = prior.denoise(z[:1], sigma[:1], cameras.select(slice(0, 1)))[0]
    assert torch.allclose(estimates["alone"][:1], estimates["alone, first by itself"], atol=1e-5)
    assert not torch.allclose(estimates["together"][:1], estimates["together, first by itself"], atol=1e-3), "the control sees no difference"


def test_it_is_another_run(parts):
    assert term(parts).source.identity() != term(parts, each_alone=True).source.identity()
