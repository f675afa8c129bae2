"""4D Metrics and Ablation Table as the host runs them."""

import errno
import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import Generator

PROMPT = "a purple pillar candle burning"


@pytest.fixture(scope="module")
def metrics(comfy):
    import bloom4d.nodes.metrics

    return bloom4d.nodes.metrics


@pytest.fixture
def folders(comfy, tmp_path):
    """The host's output, temp and model folders, in temporary places."""
    import folder_paths
    from bloom4d.nodes.host.paths import register_model_folder

    register_model_folder()
    before = folder_paths.get_output_directory(), folder_paths.get_temp_directory()
    models = {name: folder_paths.folder_names_and_paths[name] for name in ("clip_vision", "bloom4d")}
    folder_paths.set_output_directory(str(tmp_path / "output"))
    folder_paths.set_temp_directory(str(tmp_path / "temp"))
    for name, (_, kinds) in models.items():
        (tmp_path / name).mkdir()
        folder_paths.folder_names_and_paths[name] = ([str(tmp_path / name)], kinds)
    yield tmp_path
    folder_paths.set_output_directory(before[0])
    folder_paths.set_temp_directory(before[1])
    folder_paths.folder_names_and_paths.update(models)


@pytest.fixture(scope="module")
def candle(comfy):
    """images, mask, mesh, cameras, prompt of Procedural 4D Object."""
    from bloom4d.nodes.procedural import Bloom4DProcedural4DObject

    def make(seed):
        given = {"phenomenon": "candle burning", "species": "pillar", "colour": "purple", "seed": seed, "times": 4, "views": 4}
        return Bloom4DProcedural4DObject.execute(**given, azimuth=0.0, elevation=15.0, size=48).result

    with torch.inference_mode():
        return make(1), make(2)


def measured(metrics, candle, **changes):
    """The node's output for one candle against the other."""
    (images, mask, _, cameras, prompt), real = candle
    given = {"images": images, "mask": mask, "cameras": cameras, "reference": real[0], "reference_mask": real[1], "label": "mine", "views": 0, "prompt": prompt}
    given |= {"phenomenon": metrics.READ, "clip": "none", "lpips": "none", "filename_prefix": "bloom4d/scores/test"}
    return metrics.Bloom4DMetrics.execute(**{**given, **changes})


def test_scores_go_to_the_socket_the_browser_and_a_file(metrics, candle, folders):
    found = measured(metrics, candle)
    scores, content = found.result
    assert scores.label == "mine" and scores.values["phenomenon"] > 0.9 and scores.values["species"] == 1 and 20 < scores.values["PSNR"] < 100
    assert json.loads(content) == scores.report()
    said, = found.ui["scores"]
    assert said == {"label": "mine", "values": scores.finite()} and json.dumps(said, allow_nan=False)
    file, = found.ui["files"]
    assert json.loads((folders / "output" / file["subfolder"] / file["filename"]).read_text()) == scores.report()
    assert not list((folders / "output").rglob("*.tmp"))


def test_notes_name_files_hashes_and_protocol(metrics, candle, folders):
    notes = " ".join(measured(metrics, candle).result[0].notes)
    assert "4 times x 4 views of 48 x 48 pixels over white" in notes
    assert "recogniser.safetensors, SHA-256 " in notes and "candle burning: pillar, purple" in notes
    assert "clip-vit-base-patch32" in notes and "alexnet-owt-7be5be79.pth" in notes, "what would give the absent scores"


def test_an_empty_prefix_saves_nothing(metrics, candle, folders):
    assert measured(metrics, candle, filename_prefix=" ").ui["files"] == () and not (folders / "output").exists()


def test_a_full_disk_is_told_in_words_and_leaves_no_file(metrics, candle, folders, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="^The scores could not be written to .*No space left.*Free some disk space"):
        measured(metrics, candle)
    assert list((folders / "output" / "bloom4d" / "scores").iterdir()) == []


def test_a_file_outside_the_output_folder_is_refused(metrics, candle, folders):
    with pytest.raises(ValueError, match="leads out of the output folder"):
        measured(metrics, candle, filename_prefix="../scores")


@pytest.mark.parametrize(("prompt", "phenomenon", "expected"), [
    (PROMPT, "read off the prompt", ("candle burning", "candle burning: pillar", "purple")),
    (PROMPT, "candle burning", ("candle burning", "candle burning: pillar", "purple")),
    (PROMPT, "bread baking", ("bread baking", None, None)),
    ("", "bread baking", ("bread baking", None, None)),
    (PROMPT, "none", None),
    ("a castle collapsing", "read off the prompt", None),
])
def test_the_recogniser_is_asked_for_the_prompt_or_the_widget(metrics, prompt, phenomenon, expected):
    found = metrics.named(prompt, phenomenon)
    assert (None if found is None else (found.phenomenon, found.species, found.colour)) == expected


def test_another_phenomenon_scores_zero_and_none_is_absent(metrics, candle, folders):
    assert measured(metrics, candle, phenomenon="bread baking").result[0].values["phenomenon"] < 0.1
    assert "phenomenon" not in measured(metrics, candle, phenomenon="none").result[0].values


def test_clip_is_read_from_the_hosts_folders(metrics, candle, folders):
    from tiny_judges import by_hand, tiny_clip

    model, clip = tiny_clip(), folders / "clip_vision" / "tiny_clip.safetensors"
    save_file(model.state_dict(), clip)
    assert metrics.Bloom4DMetrics.define_schema().inputs[5].options == ["none", "tiny_clip.safetensors"]
    scores = measured(metrics, candle, clip="tiny_clip.safetensors").result[0]
    assert scores.values["CLIP"] == pytest.approx(by_hand(model, metrics.judges.TOKENIZER, candle[0][0].movedim(-1, 1), PROMPT), abs=2e-3)
    note, = (note for note in scores.notes if note.startswith("CLIP"))
    assert hashlib.sha256(clip.read_bytes()).hexdigest() in note and "32 x 32" in note and PROMPT in note and "quick_gelu" in note
    assert not [held for held in metrics.judges.comfy.model_management.loaded_models() if isinstance(held.model, torch.nn.Sequential)], "given back"
    before = metrics.Bloom4DMetrics.fingerprint_inputs(clip="tiny_clip.safetensors", lpips="none")
    save_file({**model.state_dict(), "more": torch.zeros(1)}, clip)
    assert metrics.Bloom4DMetrics.fingerprint_inputs(clip="tiny_clip.safetensors", lpips="none") != before


def test_lpips_is_read_from_the_hosts_folders(metrics, candle, folders):
    pytest.importorskip("lpips")
    from bloom4d.models.metrics import perceptual
    from tiny_judges import classifier, linear

    large = torch.nn.functional.interpolate(candle[0][0].movedim(-1, 1), (64, 64)).movedim(1, -1)
    torch.save(classifier().state_dict(), folders / "bloom4d" / "alexnet.pth")
    assert metrics.Bloom4DMetrics.define_schema().inputs[6].options == ["none", "alexnet.pth"]
    other = large.flip(0)
    changes = {"images": large, "reference": other, "mask": None, "reference_mask": None, "cameras": None, "views": 4}
    scores = measured(metrics, candle, lpips="alexnet.pth", **changes).result[0]
    network = perceptual.build("alex", classifier().state_dict(), linear("alex"))
    assert scores.values["LPIPS"] == pytest.approx(perceptual.distance(network, large.movedim(-1, 1), other.movedim(-1, 1)), rel=1e-4)
    assert any(note.startswith("LPIPS: alexnet.pth, SHA-256") for note in scores.notes)


def test_an_interrupt_reaches_the_networks(metrics, candle, folders):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing
    from tiny_judges import tiny_clip

    save_file(tiny_clip().state_dict(), folders / "bloom4d" / "tiny_clip.safetensors")
    interrupt_current_processing()
    with pytest.raises(InterruptProcessingException):
        measured(metrics, candle, clip="tiny_clip.safetensors")


def test_files_of_another_kind_are_refused_in_one_line(metrics, candle, folders):
    save_file({"weight": torch.zeros(2)}, folders / "bloom4d" / "other.safetensors")
    (folders / "bloom4d" / "broken.safetensors").write_bytes(b"no weights")
    (folders / "bloom4d" / "broken.pth").write_bytes(b"no weights")
    for changes, message in (
        ({"clip": "other.safetensors"}, "has no fitting text_model"), ({"clip": "broken.safetensors"}, "cannot be read"),
        ({"lpips": "broken.pth"}, "cannot be read"), ({"lpips": "other.safetensors"}, "no network that LPIPS knows"),
        ({"clip": "gone.safetensors"}, "is missing"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message) as refusal:
            measured(metrics, candle, **changes)
        assert "\n" not in str(refusal.value)


def test_what_does_not_fit_is_refused(metrics, candle, folders):
    (images, mask, _, cameras, _), _ = candle
    for changes, message in (
        ({"images": images[:-1], "mask": None, "cameras": None, "views": 4}, "15 images do not divide by 4 views"),
        ({"mask": mask[:3]}, "mask of the images is 3"), ({"reference": images[:8], "reference_mask": None}, "reference is 8"),
        ({"images": images[:1], "mask": None, "cameras": None, "reference": None, "reference_mask": None}, "single picture"),
        ({"reference": None}, "reference_mask and no reference"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            measured(metrics, candle, **changes)


# Ablation Table


@pytest.fixture
def results(metrics):
    from bloom4d.models.metrics.scores import Scores

    return {
        "score0": Scores("full", {"CLIP": 35.0, "multi-face": 0.1, "motion": 0.9, "own": 2.0}, ("by hand",)),
        "score1": Scores("no 3D", {"CLIP": 35.1, "multi-face": 0.8, "motion": 1.4, "own": 3.0}),
        "score3": Scores("single | grid", {"CLIP": 25.5, "multi-face": float("nan")}),
    }


def tabled(metrics, scores=None, pictures=None, labels="", prefix="bloom4d/tables/test"):
    return metrics.Bloom4DAblationTable.execute(scores or {}, pictures or {}, labels, prefix)


def test_a_table_marks_the_best_of_each_column(metrics, results, folders):
    table, plot, content, markdown = tabled(metrics, results).result
    assert markdown.splitlines() == [
        "| result | CLIP (higher) | motion (near 1) | multi-face (lower) | own |",
        "| --- | --- | --- | --- | --- |",
        "| full | 35 | **0.9** | **0.1** | 2 |",
        "| no 3D | **35.1** | 1.4 | 0.8 | 3 |",
        "| single \\| grid | 25.5 | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} |",
    ]
    found = json.loads(content)
    assert found["best"] == {"CLIP": ["no 3D"], "motion": ["full"], "multi-face": ["full"]}
    assert found["rows"][0] == {"label": "full", "values": results["score0"].values, "notes": ["by hand"]} and found["rows"][2]["values"]["multi-face"] is None
    assert found["scores"]["CLIP"]["best"] == "higher" and table.shape[0] == plot.shape[0] == 1 and table.shape[-1] == 3


def test_a_table_is_saved_in_both_formats_under_one_number(metrics, results, folders):
    found = tabled(metrics, results)
    written = {path.suffix: path for path in (folders / "output" / "bloom4d" / "tables").iterdir()}
    assert written[".md"].read_text(encoding="utf-8") == found.result[3] and json.loads(written[".json"].read_text(encoding="utf-8")) == json.loads(found.result[2])
    assert written[".md"].stem == written[".json"].stem and len(written) == 2
    tabled(metrics, results)
    assert len(list((folders / "output" / "bloom4d" / "tables").iterdir())) == 4
    assert [file["filename"] for file in found.ui["files"]] == [written[".json"].name, written[".md"].name] and found.ui["images"][0]["type"] == "temp"


def test_the_best_cell_is_green_and_the_longest_bar_is_the_largest_value(metrics, results, folders):
    table, plot = (image[0] for image in tabled(metrics, results).result[:2])
    green = (table == torch.tensor([214, 240, 214]) / 255).all(-1)
    assert len(connected_rows(green)) == 2, "the first two rows have winners, the third has none"
    panel = plot[:, 400:800]  # motion: .9, 1.4, absent
    bars = ((panel == torch.tensor([60, 150, 80]) / 255).all(-1) | (panel == torch.tensor([120, 160, 210]) / 255).all(-1)).sum(1)
    lengths = [int(bars[first]) for first in connected_rows(bars[:, None] > 0)]
    assert len(lengths) == 2 and lengths[1] / lengths[0] == pytest.approx(1.4 / 0.9, rel=0.03)


def connected_rows(mask):
    """The first lines of runs of lines where the mask has something."""
    lines = mask.any(1).int()
    return (lines.diff(prepend=torch.zeros(1, dtype=torch.int32)) == 1).nonzero().flatten().tolist()


def test_pictures_stand_beside_the_scores_with_their_number(metrics, results, folders):
    red = torch.tensor([1.0, 0.0, 0.0]).expand(9, 20, 30, 3).clone()
    table = tabled(metrics, results, {"picture1": red}).result[0][0]
    lines = (table == torch.tensor([1.0, 0.0, 0.0])).all(-1)
    assert connected_rows(lines) and int(lines.sum()) == 6 * 96 * 144, "six of nine, 96 high, 3 : 2"
    plain = tabled(metrics, results).result[0]
    assert table.shape[0] > plain.shape[1] and table.shape[1] > plain.shape[2]


def test_rows_of_pictures_need_names_only(metrics, folders):
    some = torch.rand(2, 16, 16, 3, generator=Generator().manual_seed(0))
    table, plot, content, markdown = tabled(metrics, None, {"picture0": some, "picture1": some}, "with prior\nwithout").result
    assert [row["label"] for row in json.loads(content)["rows"]] == ["with prior", "without"] and "without" in markdown
    with pytest.raises(ValueError, match="Row 2 has pictures and no name"):
        tabled(metrics, None, {"picture0": some, "picture1": some}, "with prior")


def test_labels_rename_rows_from_the_first_on(metrics, results, folders):
    rows = json.loads(tabled(metrics, results, labels="\nno multi-view prior").result[2])["rows"]
    assert [row["label"] for row in rows] == ["full", "no multi-view prior", "single | grid"]
    with pytest.raises(ValueError, match="4 labels for 3 rows"):
        tabled(metrics, results, labels="a\nb\nc\nd")


def test_an_empty_table_is_refused(metrics, folders):
    with pytest.raises(ValueError, match="table is empty"):
        tabled(metrics)


def test_letters_that_the_font_lacks_are_replaced(metrics):
    from bloom4d.nodes.table_pictures import _printable

    assert _printable("cr\N{LATIN SMALL LETTER E WITH GRAVE}me") == "creme" and _printable("\N{CJK UNIFIED IDEOGRAPH-82B1}") == "?"
