"""The table of a batch: means and spreads over seeds worked out by hand, axes, failures, and its pictures."""

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from batch import plot, table
from batch.manifest import Manifest
from PIL import Image


@pytest.fixture
def write(tmp_path):
    """A batch folder with these rows: (inputs, scores or None for a failed row)."""
    def use(*entries, **changes):
        manifest = Manifest(tmp_path / "manifest.jsonl")
        for number, (inputs, scores) in enumerate(entries, 1):
            ended = {"status": "error", "scores": {}, "bytes": 0} if scores is None else {"status": "success", "scores": scores, "bytes": 2_000_000}
            manifest.append({"row": number, "key": f"k{number}", "folder": f"f{number}", "inputs": inputs, "seed": None, "models": {}, "model_paths": {},
                             "outputs": [], "hashes": {}, "seconds": 10.0 * number, "error": None, "where": "", "same_as": None, **ended, **changes})
        return tmp_path

    return use


def psnr(value):
    return {"any": {"PSNR": value}}


def test_mean_and_standard_deviation_over_seeds(write):
    found = table.table_of(write(*[({"rate": rate, "seed": seed}, psnr(value)) for rate, seed, value in
                                   [(0.2, 0, 20.0), (0.2, 1, 22.0), (0.2, 2, 24.0), (0.1, 0, 7.0)]]))
    assert found.columns == ["rate"] and found.axes == {"rate": [0.1, 0.2]} and found.quantities == ["PSNR", "seconds", "MB"]
    first, second = found.points
    assert first.at == {"rate": 0.2} and first.numbers["PSNR"] == table.Number(22.0, 2.0, 3) and first.numbers["seconds"] == table.Number(20.0, 10.0, 3)
    assert second.numbers["PSNR"] == table.Number(7.0, None, 1) and second.numbers["MB"].mean == 2.0
    assert table.printed(found).splitlines()[1].split("  ")[0] == "0.2" and "22 ± 2" in table.printed(found)


def test_failed_rows_are_counted_and_never_averaged(write):
    found = table.table_of(write(({"rate": 1, "seed": 0}, psnr(5.0)), ({"rate": 1, "seed": 1}, None), ({"rate": 2, "seed": 0}, None)))
    assert [(point.runs, point.failed) for point in found.points] == [(2, 1), (1, 1)]
    assert found.points[0].numbers["PSNR"] == table.Number(5.0, None, 1) and found.points[1].numbers == {}
    assert "failed" in table.printed(found).splitlines()[0]


def test_repeated_rows_count_once(write):
    folder = write(({"rate": 1}, psnr(5.0)), ({"rate": 2}, psnr(6.0)))
    manifest = Manifest(folder / "manifest.jsonl")
    manifest.append({**manifest.lines[0], "row": 3, "same_as": 1})
    assert [point.runs for point in table.table_of(folder).points] == [1, 1]


def test_scores_of_several_labels_keep_them_apart_and_missing_ones_stay_empty(write):
    found = table.table_of(write(({"a": 1}, {"x": {"PSNR": 1.0}, "y": {"PSNR": 2.0, "SSIM": None}}), ({"a": 2}, {"x": {"PSNR": 3.0}})))
    assert found.quantities[:2] == ["x: PSNR", "y: PSNR"] and "y: PSNR" not in found.points[1].numbers


def test_a_column_that_others_determine_is_no_axis(write):
    rows = [({"prompt": prompt, "Save.prefix": prompt[:1], "rate": rate, "fixed": 3}, psnr(1.0)) for prompt in ("rose", "candle") for rate in (1, 2)]
    found = table.table_of(write(*rows))
    assert found.columns == ["prompt", "Save.prefix", "rate"] and list(found.axes) == ["prompt", "rate"]


def test_json_and_csv_say_the_same(write):
    found = table.table_of(write(({"prompt": "a, b", "seed": 0}, psnr(1.0)), ({"prompt": "a, b", "seed": 1}, psnr(2.0)), ({"prompt": "c", "seed": 0}, None)))
    rows = list(csv.DictReader(io.StringIO(table.as_csv(found))))
    assert rows[0] == {"prompt": "a, b", "runs": "2", "failed": "0", "PSNR": "1.5", "PSNR spread": str(math.sqrt(0.5)),
                       "seconds": "15.0", "seconds spread": str(math.sqrt(50)), "MB": "2.0", "MB spread": "0.0"}
    content = json.loads(table.as_json(found))
    assert content["points"][0]["numbers"]["PSNR"] == {"mean": 1.5, "spread": math.sqrt(0.5), "count": 2} and content["points"][1]["numbers"] == {}


def test_a_wide_table_is_printed_in_parts(write):
    names = [f"score {number}" for number in range(9)]
    found = table.table_of(write(*[({"rate": rate}, {"": {name: rate * 1.5 for name in names}}) for rate in (1, 2)]))
    parts = [part.splitlines() for part in table.printed(found, width=60).split("\n\n")]
    assert len(parts) > 1 and all(len(line) <= 60 for part in parts for line in part)
    assert all(part[1].startswith("1 ") and part[2].startswith("2 ") and len(part) == 3 for part in parts)
    assert [name for part in parts for name in names if name in part[0]] == names


def test_the_command_writes_a_picture_and_two_files(write, tmp_path):
    command = [sys.executable, str(Path(__file__).parents[2] / "tools" / "table.py"), str(tmp_path)]
    missing = subprocess.run(command, capture_output=True, text=True)
    assert missing.returncode == 1 and missing.stderr.startswith(f"{tmp_path} has no manifest.jsonl with rows") and missing.stderr.count("\n") == 1
    write(({"rate": 1}, psnr(5.0)), ({"rate": 2}, psnr(6.0)))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("rate  runs  PSNR")
    assert json.loads((tmp_path / "table.json").read_text())["axes"] == {"rate": [1, 2]} and (tmp_path / "table.csv").read_text().startswith("rate,runs")
    assert Image.open(tmp_path / "table.png").format == "PNG"


def test_no_rows_is_an_error(tmp_path):
    with pytest.raises(table.TableError, match=r"has no manifest\.jsonl with rows"):
        table.table_of(tmp_path)


def test_the_highest_value_of_a_heat_map_is_darkest_and_a_missing_one_is_crossed_out(write):
    entries = {(1, 1): 0.0, (1, 2): 1.0, (2, 1): 10.0}
    panel = plot.heat_panel(table.table_of(write(*[({"down": a, "right": b}, psnr(value)) for (a, b), value in entries.items()],
                                                 ({"down": 2, "right": 2}, None))), "PSNR")
    corners = [panel.getpixel((panel.width - plot.GAP - plot.CELL * (2 - column) + 3, plot.HEAD + 2 * plot.ROW * row + 3))
               for row in (0, 1) for column in (0, 1)]
    assert corners[0] == plot.LOW and corners[2] == plot.HIGH and corners[3] == plot.GRID
    assert sum(corners[0]) > sum(corners[1]) > sum(corners[2])


def test_a_line_rises_where_the_means_rise(write):
    panel = plot.line_panel(table.table_of(write(*[({"rate": rate}, psnr(value)) for rate, value in ((1, 0.0), (2, 5.0), (3, 10.0))])), "PSNR")
    dots = [min(y for y in range(plot.HEIGHT) if panel.getpixel((x, y)) == plot.DOT) for x in (92, 311, 530)]
    assert dots[0] > dots[1] > dots[2] and abs(dots[0] + dots[2] - 2 * dots[1]) <= 2


@pytest.mark.parametrize("entries", [
    [({}, {})], [({}, None)], [({"a": 1}, None), ({"a": 2}, None)], [({"a": "x" * 500}, psnr(1.0)), ({"a": "玫瑰\n"}, psnr(None))],
    [({"a": True}, {}), ({"a": False}, {})], [({"a": 1e-9}, psnr(1e-30)), ({"a": 1e9}, psnr(1e30))], [({"a": [[1]]}, {}), ({"a": None}, {})],
])
def test_any_manifest_can_be_drawn(write, entries):
    found = table.table_of(write(*entries))
    assert plot.draw(found).width >= 300 and table.printed(found) and table.as_csv(found)


def test_round_steps():
    assert [plot.nice(step) for step in (0.11, 0.2, 0.3, 7, 1)] == [0.2, 0.2, 0.5, 10, 1]
    assert plot.Scale([0.0, 10.0], 0, 100).ticks() == [0, 2, 4, 6, 8, 10]
    scale = plot.Scale([1.0, 100.0], 0, 200, logarithmic=True)
    assert [round(scale.at(value)) for value in (1, 10, 100)] == [0, 100, 200]
