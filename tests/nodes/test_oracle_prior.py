"""The oracle prior is the posterior mean that it claims to be, and behaves as a host MODEL."""

import pytest
import torch
from oracle_maths import MixtureOracle


@pytest.fixture(scope="module")
def oracle(comfy):
    import oracle

    return oracle


def photographs(objects=3, azimuths=4, times=3, size=8):
    """Distinct random pictures for every object, azimuth and time."""
    return torch.rand(objects, azimuths, times, 4, size, size, generator=torch.Generator().manual_seed(1))


def cameras(frames=None):
    from bloom4d.models.geometry.cameras import view_time_grid

    return view_time_grid(views=2, frames=2, azimuth_degrees=3.0)  # near the lattice points 0 and 2, at the first and last time


SEEN = ((0, 0), (2, 0), (0, 2), (2, 2))  # azimuth, time of these cameras on the lattice


def adapter_of(oracle, pictures, **options):
    from bloom4d.nodes.host.adapter import HostPrior

    model, vae = oracle.oracle_prior(pictures, **options)
    any_object = oracle.prompt(None, pictures.shape[0])
    return HostPrior(model, vae, [any_object], any_object)


@pytest.mark.parametrize("variance,temperature,zero_terminal", [(1e-4, 1.0, True), (0.05, 1.0, False), (0.05, 8.0, True)])
def test_it_is_the_posterior_mean_of_whole_scenes(oracle, variance, temperature, zero_terminal):
    pictures = photographs()
    prior = adapter_of(oracle, pictures, variance=variance, temperature=temperature, zero_terminal=zero_terminal)
    scenes = torch.stack([torch.stack([pictures[k, i, j] for i, j in SEEN]) for k in range(3)])  # (K, V, 4, H, W)
    exact = MixtureOracle(scenes.double(), variance, temperature=temperature)
    with prior:
        for percent in (0.02, 0.3, 0.6, 0.95):
            sigma = prior.sigma_at(torch.tensor([percent] * 4))
            z = prior.add_noise(scenes[1], torch.randn(scenes[1].shape, generator=torch.Generator().manual_seed(2)), sigma)
            found, _ = prior.denoise(z, sigma, cameras())
            expected = exact.denoise(z[None].double(), torch.ones(1), sigma[:1].double())[0]
            assert (found - expected).abs().max() < 2e-4


def test_one_clear_frame_decides_for_the_whole_scene(oracle):
    pictures = photographs(size=16)
    prior = adapter_of(oracle, pictures)
    sigma = torch.tensor([0.2, 80.0, 80.0, 80.0])
    scene = torch.stack([pictures[2, i, j] for i, j in SEEN])
    with prior:
        z = prior.add_noise(scene, torch.randn(scene.shape, generator=torch.Generator().manual_seed(3)), sigma)
        joint, _ = prior.denoise(z, sigma, cameras())
        apart, _ = prior.denoise(z, sigma, cameras().select(slice(None), frames=1))
    assert (joint - scene).abs().max() < 0.05
    assert (apart[1:] - scene[1:]).abs().mean() > 0.1  # without joint frames each is a guess between the objects


def test_sampling_from_noise_ends_at_one_object_from_all_sides(oracle):
    import comfy.samplers

    pictures = photographs(size=16)
    model, _ = oracle.oracle_prior(pictures)
    views = cameras()
    keys = {"bloom4d_camera": views.camera_to_world, "bloom4d_time": views.times, "bloom4d_frames": 4}
    told = [[None, keys]]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 12)
    chosen = set()
    for seed in range(6):
        noise = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
        sample = comfy.samplers.sample(
            model, noise, told, told, 1.0, model.load_device, comfy.samplers.sampler_object("euler"), sigmas, latent_image=torch.zeros_like(noise), disable_pbar=True
        )
        errors = [(sample - torch.stack([pictures[k, i, j] for i, j in SEEN])).abs().max().item() for k in range(3)]
        assert min(errors) < 0.05
        chosen.add(errors.index(min(errors)))
    assert len(chosen) > 1  # the seed decides which


def test_a_prompt_means_some_of_the_objects(oracle):
    from bloom4d.nodes.host.score import ScoreSession

    pictures = photographs()
    model, _ = oracle.oracle_prior(pictures)
    z = 1e3 * torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    with ScoreSession(model, oracle.prompt([1], 3), oracle.prompt(None, 3)) as session:
        session.set_views(cameras())
        conditional, free = session.both(z, 1e5)
    scene = torch.stack([pictures[1, i, j] for i, j in SEEN])
    assert (conditional - scene).abs().max() < 1e-3
    everything = torch.stack([pictures[:, i, j].mean(0) for i, j in SEEN])
    assert (free - everything).abs().max() < 0.05


def test_without_cameras_anything_may_be_seen(oracle):
    pictures = photographs()
    prior = adapter_of(oracle, pictures)
    with prior:
        guess, _ = prior.denoise(torch.zeros(2, 4, 8, 8), torch.tensor([1e5, 1e5]))
    assert (guess - pictures.flatten(0, 2).mean(0)).abs().max() < 1e-3


def test_it_works_through_the_patch_codec(oracle):
    from bloom4d.models.networks.patch_codec import PatchCodec, PatchCodecConfig

    pictures = photographs(size=16)
    codec = PatchCodec.fit(pictures.flatten(0, 2), PatchCodecConfig(channels=32))
    prior = adapter_of(oracle, pictures, codec=codec)
    assert prior.native_size == (16, 16) and prior.accepts_alpha
    with prior, torch.inference_mode(False), torch.enable_grad():
        rgb, alpha = torch.rand(4, 16, 16, 3).requires_grad_(), torch.rand(4, 16, 16).requires_grad_()
        z = prior.encode(rgb, alpha)
        assert z.shape == (4, 32, 2, 2)
        sigma = prior.sigma_at(torch.full((4,), 0.5))
        guess, _ = prior.denoise(prior.add_noise(z.detach(), torch.zeros_like(z), sigma), sigma, cameras())
        (z * (z.detach() - guess)).sum().backward()
    assert guess.shape == z.shape and rgb.grad.isfinite().all() and alpha.grad.abs().sum() > 0


def test_it_photographs_procedural_objects(oracle):
    styles = pytest.importorskip("bloom4d.models.data.styles")
    generator = torch.Generator().manual_seed(0)
    pictures = oracle.photograph([styles.sample_style("candle burning", generator) for _ in range(2)], azimuths=4, times=3, size=16)
    assert pictures.shape == (2, 4, 3, 4, 16, 16) and pictures[:, :, :, 3].amax() > 0.9
    heights = (pictures[0, 0, :, 3] > 0.5).any(-1).sum(-1)
    assert heights[0] > heights[2]  # candles burn down: times are in order


def test_distilling_pictures_from_it_ends_at_one_object_from_all_sides(oracle):
    """The whole way of a gradient: encode, noise, score session, residual, back to the pictures."""
    pictures = photographs(size=16)
    prior = adapter_of(oracle, pictures)
    generator = torch.Generator().manual_seed(5)
    with prior, torch.inference_mode(False), torch.enable_grad():
        leaf = torch.full((4, 16, 16, 4), 0.5, requires_grad=True)
        optimizer = torch.optim.Adam([leaf], lr=0.05)
        for step in range(60):
            sigma = prior.sigma_at(torch.full((4,), 0.05 + 0.9 * step / 60))
            z = prior.encode(leaf[..., :3], leaf[..., 3])
            noise = torch.randn(z.shape, generator=generator)
            guess, _ = prior.denoise(prior.add_noise(z.detach(), noise, sigma), sigma, cameras(), unconditional=False)
            optimizer.zero_grad()
            (z * (z.detach() - guess)).sum().backward()
            optimizer.step()
    errors = [(leaf.detach().movedim(-1, 1) - torch.stack([pictures[k, i, j] for i, j in SEEN])).square().mean().sqrt().item() for k in range(3)]
    assert min(errors) < 0.02 and sorted(errors)[1] > 0.2
