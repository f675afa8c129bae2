"""Every row of the papers' ablation tables is a row of a shipped set, and does what the paper says of it.

4D-fy: Table 2 and the supplement's Table 3. Dream-in-4D: Table 1 and its HexPlane comparison. What a row does is read off the
prompt that it becomes: for each stage, which terms are drawn how often, which field it starts from, and how long it is.
"""

import pytest
import workflow
from ablations import variants

VIEWS, PICTURES, VIDEO = "Bloom4DMultiViewGuidance", "Bloom4DVSDGuidance", "Bloom4DVideoSDSGuidance"
FULL = [{VIEWS: 1.0}, {VIEWS: 0.5, PICTURES: 0.5}, {VIEWS: 0.5, PICTURES: 0.25, VIDEO: 0.25}]
FOURDFY = {  # row -> table, field, terms of the stages that are left
    "full": ("2 and 3", "Bloom4DHashField", FULL),
    "no 3D, no image": ("2", "Bloom4DHashField", [{VIDEO: 1.0}]),
    "no 3D": ("2", "Bloom4DHashField", [{PICTURES: 1.0}, {PICTURES: 1.0}, {PICTURES: 0.5, VIDEO: 0.5}]),
    "no image": ("2", "Bloom4DHashField", [{VIEWS: 1.0}, {VIEWS: 1.0}, {VIEWS: 2 / 3, VIDEO: 1 / 3}]),
    "no hybrid": ("2", "Bloom4DHashField", [*FULL[:2], {VIDEO: 1.0}]),
    "HexPlane": ("2", "Bloom4DHexPlaneField", FULL),
    "single stage": ("3", "Bloom4DHashField", [FULL[2]]),
    "single grid": ("3", "Bloom4DSingleGridField", FULL),
}


class Row:
    """The prompt of a row, and its stages in the order in which they run."""

    def __init__(self, name, row):
        self.prompt = variants.build(variants.load_set(name), row, 0)
        self.nodes = {workflow.title(*item): item[1] for item in self.prompt.items()}
        self.stages, (node, _) = [], self.nodes["Save field"]["inputs"]["field"]
        while self.prompt[node]["class_type"] != self.field_class:
            if self.prompt[node]["class_type"] == "Bloom4DHybridSDSOptimizer":
                self.stages.insert(0, self.prompt[node])
                node = self.prompt[node]["inputs"]["field"][0]
            else:
                node = self.prompt[node]["inputs"]["canonical"][0]

    @property
    def field_class(self):
        return self.nodes["Field"]["class_type"]

    def terms(self):
        """Of every stage: class of the term -> its share, where terms are drawn; its weight, where they are added up."""
        found = []
        for optimiser in self.stages:
            stage = self.prompt[optimiser["inputs"]["stage"][0]]["inputs"]
            names = sorted(name for name in stage if name.startswith("terms."))
            shares = [float(share) for share in stage["probabilities"].split(",") if share.strip()] or [1.0] * len(names)
            found.append({self.prompt[stage[name][0]]["class_type"]: share for name, share in zip(names, shares, strict=True)})
        return found


@pytest.mark.parametrize("row", FOURDFY)
def test_the_rows_of_4dfys_tables(row):
    _, field, terms = FOURDFY[row]
    made = Row("fourdfy", row)
    assert made.field_class == field
    assert made.terms() == [pytest.approx(stage, abs=1e-3) for stage in terms]


@pytest.mark.parametrize("row", FOURDFY)
def test_rows_of_4dfy_have_equal_steps_in_all(row):
    """A row that leaves stages out is not worse for want of steps."""
    assert sum(stage["inputs"]["steps"] for stage in Row("fourdfy", row).stages) == sum(stage["inputs"]["steps"] for stage in Row("fourdfy", "full").stages)


ASSET = {VIEWS: 1.0, "Bloom4DSDSGuidance": 1.0}
SMOOTH = {"Bloom4DDisplacementTV": 1.0}
DREAM = {  # row -> terms of both stages, node in front of the second
    "full": ([ASSET, SMOOTH], "Bloom4DDeformableField"),
    "no 2D guidance": ([{VIEWS: 1.0}, SMOOTH], "Bloom4DDeformableField"),
    "no 3D guidance": ([{"Bloom4DSDSGuidance": 1.0}, SMOOTH], "Bloom4DDeformableField"),
    "HexPlane": ([ASSET, {VIDEO: 1.0}], "Bloom4DHybridSDSOptimizer"),
    "positional encoding": ([ASSET, SMOOTH], "Bloom4DDeformableField"),
    "no TV": ([ASSET, {VIDEO: 1.0}], "Bloom4DDeformableField"),
}


@pytest.mark.parametrize("row", DREAM)
def test_the_rows_of_dream_in_4ds_table(row):
    terms, before = DREAM[row]
    made = Row("dream_in_4d", row)
    assert made.terms() == terms and made.prompt[made.stages[1]["inputs"]["field"][0]]["class_type"] == before
    assert made.field_class == ("Bloom4DHexPlaneField" if row == "HexPlane" else "Bloom4DHashField")
    encoding = made.nodes.get("Moving field", {"inputs": {"encoding": None}})["inputs"]["encoding"]
    assert encoding == {"HexPlane": None, "positional encoding": "positional encoding"}.get(row, "multi-resolution grid")


@pytest.mark.parametrize(("name", "rows"), [("fourdfy", FOURDFY), ("dream_in_4d", DREAM)])
def test_every_row_of_a_table_is_in_its_set_over_three_seeds_with_a_direction(name, rows):
    made = variants.load_set(name)
    assert rows.keys() <= made.rows.keys() and made.reference == "full" and len(made.seeds) >= 3
    assert {entry.row for entry in made.expected} >= rows.keys() - {"full"}
