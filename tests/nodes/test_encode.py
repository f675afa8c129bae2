"""Encoding with gradients: the host's values, exact gradients, nothing left behind."""

import pytest
import torch

VAES = ("kl_vae", "small_vae", "pixel_vae", "rgba_vae")


@pytest.fixture(scope="module")
def encode(comfy):
    from bloom4d.nodes.host import encode

    return encode


@pytest.fixture(params=VAES)
def vae(request, synthetic):
    return getattr(synthetic, request.param)()


def pictures(count=3, side=32):
    """Inference tensors, as an IMAGE of an earlier node is."""
    rgba = torch.rand(count, side, side, 4, generator=torch.Generator().manual_seed(1))
    return rgba[..., :3] * rgba[..., 3:], rgba[..., 3]


def with_gradient(encode, vae, rgb, alpha, **options):
    """Latents, and the gradients on rgb and alpha of a fixed random projection of them."""
    with torch.inference_mode(False), torch.enable_grad():
        rgb, alpha = rgb.clone().requires_grad_(), alpha.clone().requires_grad_()
        latents = encode.encode_with_gradient(vae, rgb, alpha, **options)
        weights = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
        (latents * weights).sum().backward()
        return latents.detach(), rgb.grad, alpha.grad, weights


def test_values_are_those_of_the_host(encode, vae):
    rgb, alpha = pictures()
    latents, *_ = with_gradient(encode, vae, rgb, alpha)
    if encode.accepts_alpha(vae):
        expected = vae.first_stage_model.encode(torch.cat([rgb, alpha[..., None]], -1).movedim(-1, 1))
    else:
        expected = vae.encode(rgb)
    assert latents.shape == expected.shape and latents.dtype == torch.float32
    assert torch.equal(latents, expected)


def test_gradients_are_those_of_finite_differences(encode, vae):
    vae.first_stage_model.double()
    vae.vae_dtype = torch.float64
    rgb, alpha = (value.double() for value in pictures(count=1))
    _, rgb_gradient, alpha_gradient, weights = with_gradient(encode, vae, rgb, alpha)
    direction = torch.randn(1, 32, 32, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def value(step):
        picture = torch.cat([rgb, alpha[..., None]], -1) + step * direction
        pixels = encode._pixels(vae, picture[..., :3], picture[..., 3])
        return (vae.first_stage_model.encode(pixels) * weights.double()).sum()

    slope = (value(1e-7) - value(-1e-7)) / 2e-7  # small: a ReLU network is only piecewise linear
    expected = (rgb_gradient * direction[..., :3]).sum()
    if encode.accepts_alpha(vae):
        expected = expected + (alpha_gradient * direction[..., 3]).sum()
    else:
        assert alpha_gradient is None
    assert abs(float(slope - expected)) < 1e-5 * max(1.0, abs(float(expected)))
    assert abs(float(slope)) > 1e-2  # the direction is not blind


def test_one_picture_at_a_time_is_exact(encode, vae):
    rgb, alpha = pictures()
    latents, rgb_gradient, alpha_gradient, _ = with_gradient(encode, vae, rgb, alpha)
    again, rgb_again, alpha_again, _ = with_gradient(encode, vae, rgb, alpha, one_at_a_time=True)
    scale = rgb_gradient.abs().max()
    assert (latents - again).abs().max() < 1e-5 and (rgb_gradient - rgb_again).abs().max() < 1e-5 * scale
    if alpha_gradient is not None:
        assert (alpha_gradient - alpha_again).abs().max() < 1e-5 * scale
    subset = rgb_gradient.clone()
    subset[1:] = 0  # the reference code's low-memory shortcut: only some frames carry gradient
    assert (rgb_gradient - subset).abs().max() > 0.1 * scale


def test_one_picture_at_a_time_keeps_no_activations(encode, synthetic):
    vae = synthetic.kl_vae()
    rgb, _ = pictures()
    kept = []
    with torch.inference_mode(False), torch.enable_grad():
        for option in (False, True):
            saved = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: (saved.append(t.numel()), t)[1], lambda t: t):
                encode.encode_with_gradient(vae, rgb.clone().requires_grad_(), one_at_a_time=option)
            kept.append(sum(saved))
    assert kept[1] == rgb.numel() and kept[0] > 20 * kept[1]


def test_nothing_is_left_behind(encode, vae):
    model = vae.first_stage_model
    with_gradient(encode, vae, *pictures())  # the host's own loading sets up the hooks of its operations
    before = [(name, id(store[key])) for name, part in model.named_modules() for store in (part._parameters, part._buffers) for key in store]
    functions = [dict(part.__dict__).get("weight_function") for part in model.modules()]
    with_gradient(encode, vae, *pictures())
    with pytest.raises(RuntimeError, match="given up"):
        with torch.inference_mode(False), encode.differentiable(model):
            raise RuntimeError("given up")
    after = [(name, id(store[key])) for name, part in model.named_modules() for store in (part._parameters, part._buffers) for key in store]
    assert before == after
    assert functions == [dict(part.__dict__).get("weight_function") for part in model.modules()]
    assert all(value.grad is None for value in model.parameters())


def test_without_it_autograd_refuses(synthetic):
    """The negative control: why `differentiable` exists."""
    vae = synthetic.kl_vae()
    rgb, _ = pictures()
    with torch.inference_mode(False), torch.enable_grad():
        with pytest.raises(RuntimeError, match="[Ii]nference tensor"):
            vae.encode(rgb.clone().requires_grad_())


def test_other_sizes_are_cropped_as_the_host_does(encode, synthetic):
    vae = synthetic.kl_vae()
    rgb = torch.rand(1, 37, 45, 3, generator=torch.Generator().manual_seed(4))
    latents, *_ = with_gradient(encode, vae, rgb, rgb[..., 0])
    assert torch.equal(latents, vae.encode(rgb))


def test_a_missing_vae_ends_in_one_plain_line(encode, synthetic):
    import comfy.sd

    for vae in (None, comfy.sd.VAE(sd={})):
        with pytest.raises(ValueError, match="There is no VAE .* Connect the VAE of the same checkpoint") as failure:
            encode.encode_with_gradient(vae, torch.zeros(1, 8, 8, 3))
        assert "\n" not in str(failure.value)
