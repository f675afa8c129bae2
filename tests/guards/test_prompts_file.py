"""Prompts files: what becomes a row, and what every fault says. Expected rows are written out by hand."""

import json

import pytest
from batch import prompts_file, rows


@pytest.fixture
def prompt() -> dict:
    return {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a rose", "clip": ["9", 0]}, "_meta": {"title": "Prompt"}},
        "2": {"class_type": "Stage", "inputs": {"steps": 100, "rate": 0.5, "resume": True, "seed": 1}, "_meta": {"title": "Stage 1"}},
        "3": {"class_type": "Save", "inputs": {"prefix": "x", "noise_seed": 1, "seed": ["2", 0], "curve": [[0, 1]]}, "_meta": {"title": "Save"}},
    }


@pytest.fixture
def read(tmp_path, prompt):
    """Rows of a file with this content."""
    def use(name, content, seeds=()):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return rows.read_rows(path, prompt, seeds)

    return use


def values(found, *columns):
    return [tuple(row.inputs[column] for column in columns) for row in found]


def test_txt_is_a_prompt_a_line(read):
    found = read("p.txt", b"\xef\xbb\xbfa red rose\r\n\r\n# a comment\n  a candle, burning | slowly  \n\\# one\n")
    assert values(found, "prompt") == [("a red rose",), ("a candle, burning | slowly",), ("# one",)]
    assert [row.prompt["1"]["inputs"]["text"] for row in found] == ["a red rose", "a candle, burning | slowly", "# one"]
    assert [row.number for row in found] == [1, 2, 3] and found[1].source == "p.txt line 4"


def test_csv_sets_values_in_their_type_and_keeps_what_is_empty(read, prompt):
    found = read("p.csv", 'prompt,Stage 1.steps,Stage 1.resume,seed\n"a rose, ""red""",20,false,7\n,,,\n\n,1e1,,\n')
    assert values(found, "prompt", "Stage 1.steps", "Stage 1.resume", "seed") == [('a rose, "red"', 20, False, 7), ("a rose", 10.0, True, 1)]
    assert found[0].prompt["2"]["inputs"] == {"steps": 20, "rate": 0.5, "resume": False, "seed": 7}
    assert found[0].prompt["3"]["inputs"]["noise_seed"] == 7 and found[0].prompt["3"]["inputs"]["seed"] == ["2", 0]
    assert found[0].seed == 7 and found[1].seed == 1
    assert prompt["2"]["inputs"]["steps"] == 100, "the workflow itself stays as it was"


def test_jsonl_sets_json_values(read):
    found = read("p.jsonl", '{"prompt": "a\\nb", "Stage 1.rate": 0.25}\n\n{"Save.curve": [[[0, 0], [1, 1]]], "Stage 1.rate": null}\n{}')
    assert values(found, "prompt", "Stage 1.rate", "Save.curve") == [("a\nb", 0.25, [[0, 1]]), ("a rose", 0.5, [[0, 0], [1, 1]]), ("a rose", 0.5, [[0, 1]])]


def test_a_grid_spreads_with_the_last_column_fastest_and_seeds_fastest_of_all(read):
    found = read("p.csv", "Stage 1.steps,Stage 1.rate\n1 | 2,0.1 | 0.2\n", seeds=[5, 6])
    assert values(found, "Stage 1.steps", "Stage 1.rate", "seed") == [
        (1, 0.1, 5), (1, 0.1, 6), (1, 0.2, 5), (1, 0.2, 6), (2, 0.1, 5), (2, 0.1, 6), (2, 0.2, 5), (2, 0.2, 6)]
    assert values(read("p.jsonl", '{"Stage 1.steps": [1, 2], "seed": [3, 4]}'), "Stage 1.steps", "seed") == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_a_bar_can_belong_to_the_text(read):
    assert values(read("p.csv", "prompt\na \\| b | c|d\n"), "prompt") == [("a | b",), ("c|d",)]


def test_equal_rows_have_equal_keys_and_folders_and_others_do_not(read):
    first, second, third = read("p.txt", "a rose\na rose\na Rose\n")
    assert first.key == second.key and first.name == second.name
    assert third.key != first.key and third.name != first.name


def test_a_folder_name_says_what_is_in_it():
    inputs = {"prompt": "A red rose, blooming", "Stage 1.rate": 0.5, "seed": 7}
    assert rows.folder_name(inputs, "0123456789abcdef") == "a_red_rose_blooming_rate_0.5_seed_7_01234567"


@pytest.mark.parametrize("text", ["../../etc/passwd", "C:\\con", "a" * 400, "玫瑰", ". .", "a/b\\c:d*e?f", "CON"])
def test_a_folder_name_is_plain_and_short(text):
    name = rows.folder_name({"prompt": text}, "0123456789abcdef")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.") and len(name) <= 73 and name.endswith("_01234567") and name[0] not in "._"


FAULTS = [
    ("p.md", "x", r"p\.md: a prompts file ends in \.txt, \.csv or \.jsonl"),
    ("p.txt", "\n# only\n", r"p\.txt has no rows"),
    ("p.csv", "prompt\n", r"p\.csv has no rows"),
    ("p.csv", "", r"p\.csv has no rows"),
    ("p.txt", b"ok\n\xff\xfe\n", r"p\.txt line 2: byte 0xff is not UTF-8"),
    ("p.csv", "prompt\na\0b\n", r"p\.csv line 2: a zero byte"),
    ("p.csv", "prompt,Sage.steps\na,1\n", r'p\.csv line 1, column "Sage\.steps": no node is titled like "Sage\.steps"; titles: Prompt, Save, Stage 1'),
    ("p.csv", "prompt,\na,1\n", r"p\.csv line 1: column 2 has no name"),
    ("p.csv", "prompt,prompt\na,b\n", r'p\.csv line 1: column "prompt" is there twice'),
    ("p.csv", "prompt;seed\na;1\n", r"p\.csv line 1: the cells are not separated by commas"),
    ("p.csv", "prompt,seed\na,b,c\n", r"p\.csv line 2: 3 cells, but the header has 2"),
    ("p.csv", 'prompt\n"a\nb\n', r"p\.csv line 2: a quote is opened and never closed"),
    ("p.csv", 'prompt\n"a"b\n', r"p\.csv line 2: text after a closing quote"),
    ("p.csv", '"pro\nmpt",seed\na,1\n', r"p\.csv line 1: the name of column 1 holds a line break"),
    ("p.csv", "prompt\na\n" + "b" * 131073, r"p\.csv line 3: a cell is longer than 131072"),
    ("p.csv", '"Prompt.text",prompt\na,b\n', r'column "prompt": it sets the same value as column "Prompt\.text"'),
    ("p.csv", "Stage 1.steps\nmany\n", r'p\.csv line 2, column "Stage 1\.steps": .* holds 100, and many is no value of that kind'),
    ("p.csv", "Stage 1.steps\nNaN\n", r"line 2.*NaN is no value of that kind"),
    ("p.csv", "Stage 1.steps\n1 |  | 2\n", r'p\.csv line 2, column "Stage 1\.steps": an empty value beside'),
    ("p.csv", "Prompt.clip\n1\n", r"is connected to another node"),
    ("p.csv", "seed\n-1\n", r'p\.csv line 2, column "seed": -1 is no seed'),
    ("p.csv", "seed\n18446744073709551616\n", r"is no seed"),
    ("p.jsonl", "[1]\n", r"p\.jsonl line 1: \[1\] is not an object"),
    ("p.jsonl", '{"prompt": "a"}\n{"prompt": }\n', r"p\.jsonl line 2: not JSON \(Expecting value, column 12\)"),
    ("p.jsonl", "[" * 200000, r"p\.jsonl line 1: not JSON \(nested too deeply\)"),
    ("p.jsonl", '{"Stage 1.steps": ' + "9" * 5000 + "}", r"p\.jsonl line 1: not JSON \(a number with too many digits\)"),
    ("p.jsonl", '{"prompt": 5}', r'line 1, column "prompt": "prompt" holds "a rose", and 5 is no value of that kind'),
    ("p.jsonl", '{"Stage 1.resume": 1}', r"holds true, and 1 is no value of that kind"),
    ("p.jsonl", '{"Stage 1.rate": true}', r"holds 0\.5, and true is no value of that kind"),
    ("p.jsonl", '{"Stage 1.rate": Infinity}', r"not finite"),
    ("p.jsonl", '{"Stage 1.rate": []}', r"a list that is empty or holds null"),
    ("p.jsonl", '{"prompt": "a", "prompt": "b"}', r'the key "prompt" is there twice'),
    ("p.jsonl", '{"prompt": "\\ud800"}', r"half of a surrogate pair"),
    ("p.jsonl", '{"": 1}', r"column 1 has no name"),
    ("p.jsonl", '{"seed": 1.0}', r"1\.0 is no seed"),
    ("p.jsonl", json.dumps({"Stage 1.steps": list(range(101)), "Stage 1.rate": [0.5] * 100}), r"the file has 10100 rows, at most 10000 are allowed"),
]


@pytest.mark.parametrize(("name", "content", "words"), FAULTS, ids=[f"{number}{name[1:]}" for number, (name, _, _) in enumerate(FAULTS)])
def test_a_fault_names_file_line_and_column_in_one_line(read, name, content, words):
    with pytest.raises(prompts_file.PromptsError, match=words) as fault:
        read(name, content)
    assert "\n" not in str(fault.value) and len(str(fault.value)) <= 1000


def test_a_file_that_is_too_large_or_not_there(tmp_path, prompt, monkeypatch):
    monkeypatch.setattr(prompts_file, "MAX_BYTES", 1 << 20)
    (tmp_path / "p.txt").write_bytes(b"a\n" * (1 << 19) + b"b")
    with pytest.raises(prompts_file.PromptsError, match=r"p\.txt is larger than 1 MiB"):
        rows.read_rows(tmp_path / "p.txt", prompt)
    for path in (tmp_path / "none.txt", tmp_path / "folder.csv"):
        (tmp_path / "folder.csv").mkdir(exist_ok=True)
        with pytest.raises(prompts_file.PromptsError, match="cannot be read"):
            rows.read_rows(path, prompt)


def test_seeds_go_with_no_seed_column(read, prompt):
    with pytest.raises(prompts_file.PromptsError, match='line 1, column "seed": this column sets a seed, and so does --seeds'):
        read("p.csv", "seed\n1\n", seeds=[1])
    with pytest.raises(prompts_file.PromptsError, match="--seeds: -1 is no seed"):
        read("p.txt", "a\n", seeds=[-1])
    del prompt["2"]["inputs"]["seed"], prompt["3"]["inputs"]["noise_seed"]
    with pytest.raises(prompts_file.PromptsError, match="--seeds has nothing to set"):
        read("p.txt", "a\n", seeds=[1])
