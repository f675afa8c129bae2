"""Damaged prior files in the host's own loaders, and texts from widgets that become paths."""

import pytest
from fuzzing import engine, plan


@pytest.mark.parametrize("share", plan.of_room("comfy"), ids=lambda share: share.make.__name__)
def test_damage_is_refused_in_one_line(share, comfy, tmp_path):
    ends = engine.fuzz(share.make(tmp_path), share.cases, 3)
    assert sum(ends.values()) >= share.cases and plan.tested_something(ends), ends
