"""Zero123 on the host's own class: what reaches its network for every camera, through our loader and through the host's."""

import math
from types import SimpleNamespace

import pytest
import torch

REFERENCE = (10.0, 30.0, 3.0)  # elevation, azimuth, distance
ANGLES = ((30.0, 0.0, 3.0), (10.0, 30.0, 3.0), (-20.0, 150.0, 4.5))


@pytest.fixture(scope="module")
def checkpoints(comfy):
    import checkpoints

    return checkpoints


@pytest.fixture(scope="module")
def files(checkpoints, tmp_path_factory):
    """A small checkpoint without an image encoder, and one that the host recognises as well."""
    from bloom4d.models.formats.model_files import projection

    folder = tmp_path_factory.mktemp("zero123")

    def file(name, layout):
        unet = checkpoints.under("model.diffusion_model.", checkpoints.zero123_unet(layout))
        others = checkpoints.random_tensors(projection(layout), 3) | checkpoints.under("first_stage_model.", checkpoints.tiny_vae(1))
        return str(checkpoints.write(folder / name, unet | others))

    return SimpleNamespace(small=file("small.safetensors", checkpoints.SMALLEST_ZERO123), hosts=file("hosts.safetensors", checkpoints.HOSTS_ZERO123))


@pytest.fixture(scope="module")
def models(files):
    """XL and Stable Zero123 of the same weights, and their VAE."""
    from bloom4d.nodes.host import zero123

    with torch.inference_mode():
        model, vision, vae = zero123.load(files.small, stable=False)
        assert vision is None
        return SimpleNamespace(xl=model, stable=zero123.load_model(files.small, stable=True), vae=vae)


class Eye:
    """An image encoder that any picture makes the same impression on."""

    embedding = torch.randn(1, 768, generator=torch.Generator().manual_seed(5))

    def encode_image(self, picture):
        assert picture.shape == (1, 256, 256, 3)
        return SimpleNamespace(image_embeds=self.embedding)


def picture():
    image = torch.ones(1, 64, 64, 3)
    image[:, 20:44, 20:44] = torch.tensor([1.0, 0.2, 0.0])
    return image


def condition(vae, reference=REFERENCE, **options):
    from bloom4d.nodes.multi_view_priors import Bloom4DZero123Condition

    return Bloom4DZero123Condition.execute(Eye(), vae, picture(), *reference, **options).result


def cameras(angles=ANGLES):
    from bloom4d.models.geometry.cameras import Cameras, orbit

    elevation, azimuth, distance = (torch.tensor(column) for column in zip(*angles))
    pose = orbit(azimuth * math.pi / 180, elevation * math.pi / 180, distance)
    return Cameras(pose, torch.ones(len(pose)), torch.zeros(len(pose)))


def expected_tokens(model, stable, angles=ANGLES):
    """cc_projection of [embedding, pose], written out."""
    elevation, azimuth, distance = REFERENCE
    rows = []
    for e, a, d in angles:
        turn = math.radians(a - azimuth)
        last = math.radians(90 - elevation) if stable else d - distance
        rows.append([math.radians(elevation - e), math.sin(turn), math.cos(turn), last])
    given = torch.cat([Eye.embedding.expand(len(rows), -1), torch.tensor(rows)], dim=1)
    return given @ model.model.cc_projection.weight.float().T + model.model.cc_projection.bias.float()


def heard(model, run):
    """(network input, context) of every row that reaches the network while `run` runs, conditional rows last."""
    seen = []
    handle = model.model.diffusion_model.register_forward_pre_hook(lambda module, inputs, keywords: seen.append((inputs[0], keywords["context"])), with_kwargs=True)
    try:
        run()
    finally:
        handle.remove()
    return seen


@pytest.fixture
def prior_of(models):
    from bloom4d.nodes.host.adapter import HostPrior

    def build(model, **options):
        positive, negative = condition(models.vae)
        return HostPrior(model, models.vae, [positive], negative, size=(64, 64), **options)

    return build


@pytest.mark.parametrize("kind", ["xl", "stable"])
def test_every_random_camera_becomes_its_pose(models, prior_of, kind):
    model = getattr(models, kind)
    z, sigma = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((3,), 2.0)
    with prior_of(model) as prior:
        (x, context), = heard(model, lambda: prior.denoise(z, sigma, cameras()))
    expected = expected_tokens(model, kind == "stable")
    assert (context[3:, 0] - expected).abs().max() < 1e-4
    assert (context[3:, 0] - expected_tokens(model, kind != "stable")).abs().max() > 1e-2, "control: the other version's pose is another"
    assert torch.equal(context[:3], torch.zeros_like(context[:3])) and torch.equal(x[:3, 4:], torch.zeros_like(x[:3, 4:])), "unconditional: no picture, no pose"


def test_the_reference_latent_is_the_vaes_mode_unscaled(models, prior_of):
    from bloom4d.models.networks.zero123 import Framing

    z, sigma = torch.zeros(3, 4, 32, 32), torch.full((3,), 2.0)
    with prior_of(models.xl) as prior:
        (x, _), = heard(models.xl, lambda: prior.denoise(z, sigma, cameras()))
    latent = models.vae.encode(Framing().composite(picture()[0], None)[None])
    assert latent.shape == (1, 4, 32, 32)
    assert torch.equal(x[3:, 4:], latent.expand(3, -1, -1, -1))
    assert not torch.equal(x[3:, 4:], 0.18215 * latent.expand(3, -1, -1, -1)), "control"


def test_told_nothing_every_picture_is_the_reference_view(models, prior_of):
    z, sigma = torch.zeros(2, 4, 8, 8), torch.full((2,), 2.0)
    with prior_of(models.xl, tells=()) as prior:
        (_, context), = heard(models.xl, lambda: prior.denoise(z, sigma, cameras(ANGLES[:2])))
    assert (context[2:, 0] - expected_tokens(models.xl, False, [REFERENCE] * 2)).abs().max() < 1e-4


def hosts_loader(files, monkeypatch):
    """(MODEL, VAE) of the host's Image Only Checkpoint Loader; the file has no image encoder."""
    import comfy.sd

    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(files.hosts, output_vae=True, output_clip=False, output_clipvision=False)
    return model, vae


def test_the_hosts_own_stable_zero123_is_the_same_prior(files, models, prior_of, monkeypatch):
    import comfy.model_base

    from bloom4d.nodes.host import zero123
    from bloom4d.nodes.host.adapter import model_defaults

    theirs, _ = hosts_loader(files, monkeypatch)
    ours = zero123.load_model(files.hosts, stable=True)
    assert type(theirs.model) is comfy.model_base.Stable_Zero123
    assert model_defaults(theirs) == model_defaults(ours) == {"guidance": 3.0, "size": (256, 256)}
    z, sigma = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((3,), 2.0)
    answers = []
    for model in (theirs, ours):
        with prior_of(model) as prior:
            assert prior.backdrop == 1.0
            answers.append(prior.denoise(z, sigma, cameras()))
            elsewhere = prior.denoise(z, sigma, cameras(ANGLES[::-1]))
    for one, other in zip(*answers):
        assert torch.equal(one, other)
    assert not torch.equal(answers[1][0], elsewhere[0]), "control: other cameras, other pictures"
    assert torch.equal(answers[1][1], elsewhere[1]), "without picture and pose there is nothing to tell"


def test_the_hosts_own_condition_node_works_with_our_model(models):
    """StableZero123_Conditioning's token has its pose already; it is left as it is."""
    from comfy_extras.nodes_stable3d import StableZero123_Conditioning

    positive, negative, latent = StableZero123_Conditioning.execute(Eye(), picture_of_256(), models.vae, 64, 64, 1, 20.0, 90.0).result
    (_, context), = heard(models.stable, lambda: sample(models.stable, positive, negative, latent["samples"], steps=1))
    given = torch.cat([Eye.embedding, torch.tensor([[math.radians(-20.0), 1.0, 0.0, math.pi / 2]])], dim=1)
    projected = given @ models.stable.model.cc_projection.weight.float().T + models.stable.model.cc_projection.bias.float()
    assert (context[1:, 0] - projected).abs().max() < 1e-4


def picture_of_256():
    return torch.nn.functional.interpolate(picture().movedim(-1, 1), (256, 256)).movedim(1, -1)


def sample(model, positive, negative, latent, steps=2):
    import nodes as host_nodes

    return host_nodes.KSampler().sample(model, 0, steps, 3.0, "euler", "normal", positive, negative, {"samples": latent})[0]["samples"]


def test_the_hosts_sampler_draws_several_views(models):
    from bloom4d.models.geometry.cameras import CameraPath
    from bloom4d.nodes.prior import Bloom4DCameraTimeCondition

    path = CameraPath(frames=3, times=(0.0, 0.0))
    told = Bloom4DCameraTimeCondition.execute(*condition(models.vae), path, 1, "absolute", "none").result
    views = sample(models.xl, *told, torch.zeros(3, 4, 8, 8))
    same = sample(models.xl, *condition(models.vae), torch.zeros(3, 4, 8, 8))
    assert views.isfinite().all() and (views - same).abs().max() > 1e-3


def test_objects_stand_on_white_whatever_the_scenes_background():
    from bloom4d.models.guidance.objective import Pictures
    from bloom4d.models.render.deferred import RenderedViews

    rgb, opacity = torch.rand(2, 8, 8, 3), torch.rand(2, 8, 8)
    views = RenderedViews(rgb * opacity[..., None], opacity, *[torch.zeros(2, 8, 8)] * (len(RenderedViews.__dataclass_fields__) - 2))
    pictures = Pictures(views, None, torch.zeros(3))
    seen, alpha = pictures.for_prior(SimpleNamespace(accepts_alpha=False, backdrop=1.0))
    assert torch.equal(seen, rgb * opacity[..., None] + (1 - opacity[..., None])) and torch.equal(alpha, torch.ones(2, 8, 8))
    plain, _ = pictures.for_prior(SimpleNamespace(accepts_alpha=False, backdrop=None))
    assert torch.equal(plain, rgb * opacity[..., None]), "control: other models see the scene's background"


def test_a_text_prompt_or_another_models_condition_is_refused_in_one_line(models, synthetic):
    from bloom4d.nodes.host.score import ScoreSession

    picture, empty = condition(models.vae)
    words = synthetic.conditioning(1, tokens=77, width=768)
    for pair in ((words, empty), (picture, words)):
        with pytest.raises(ValueError, match="is no picture, and this MODEL .* Connect Zero123 Condition"):
            ScoreSession(models.xl, *pair)
    with pytest.raises(ValueError, match="772 numbers wide, and this MODEL .* takes 32"):
        ScoreSession(synthetic.image_model("eps"), picture, synthetic.conditioning(2))


@pytest.mark.parametrize("options, says", [({"mask": torch.zeros(1, 64, 64)}, "is empty"), ({"mask": torch.zeros(2, 64, 64)}, "looks at one picture, and 1 came with 2 masks")])
def test_bad_references_are_refused(models, options, says):
    with pytest.raises(ValueError, match=says):
        condition(models.vae, **options)


def test_other_encoders_are_refused(models, synthetic):
    from bloom4d.nodes.multi_view_priors import Bloom4DZero123Condition

    other = SimpleNamespace(encode_image=lambda picture: SimpleNamespace(image_embeds=torch.zeros(1, 1024)))
    with pytest.raises(ValueError, match="makes 1024 numbers of a picture, and Zero123 needs 768: CLIP ViT-L/14"):
        Bloom4DZero123Condition.execute(other, models.vae, picture(), *REFERENCE)
    with pytest.raises(ValueError, match="latents of 1 x 3 x 256 x 256, and Zero123 needs"):
        Bloom4DZero123Condition.execute(Eye(), synthetic.pixel_vae(), picture(), *REFERENCE)


def test_runs_on_xl_and_stable_are_told_apart_and_copies_answer_the_same(models):
    from bloom4d.nodes.host.identity import identify

    assert identify(models.xl) != identify(models.stable)
    with torch.inference_mode(False):
        deep = models.xl.clone(force_deepcopy=True)
    told, latent = condition(models.vae), torch.zeros(1, 4, 8, 8)
    assert torch.equal(sample(deep, *told, latent), sample(models.xl, *told, latent))


def test_a_whole_checkpoint_through_the_nodes(checkpoints, tmp_path, monkeypatch):
    import folder_paths

    from bloom4d.nodes.multi_view_priors import BY_NAME, Bloom4DZero123Condition, Bloom4DZero123Loader

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", ([str(tmp_path)], {".safetensors"}))
    checkpoints.write_zero123_checkpoint(tmp_path / "my_stable.safetensors", layout=checkpoints.SMALLEST_ZERO123)
    model, vision, vae = Bloom4DZero123Loader.execute("my_stable.safetensors", BY_NAME).result
    assert model.model.stable
    positive, negative = Bloom4DZero123Condition.execute(vision, vae, picture(), *REFERENCE).result
    assert positive[0][0].shape == (1, 1, 772) and positive[0][0].isfinite().all()
    assert sample(model, positive, negative, torch.zeros(1, 4, 8, 8)).isfinite().all()
    other = picture().flip(1) * 0.9 + 0.1
    other[:, :30] = 1.0
    assert not torch.equal(Bloom4DZero123Condition.execute(vision, vae, other, *REFERENCE).result[0][0][0], positive[0][0]), "the encoder sees the picture"
