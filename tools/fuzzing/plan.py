"""How many of all cases each reader gets: many where reading is quick and the content ours."""

from collections.abc import Callable
from dataclasses import dataclass

from . import batch_readers, file_readers, four_d_readers, host_readers, posting

WHOLE = 2500  # cases in the test suite; what the shares below add up to


@dataclass(frozen=True)
class Share:
    """`make` builds the reader from a folder, or from a running host where `room` is "host"."""

    make: Callable
    cases: int
    room: str  # files: needs nothing; comfy: ComfyUI's modules in this process; host: a running ComfyUI

    def of(self, cases: int) -> int:
        """This reader's part of `cases` in all."""
        return max(round(self.cases * cases / WHOLE), 1)


PLAN = (
    Share(file_readers.field_files, 260, "files"),
    Share(file_readers.checkpoints, 320, "files"),
    Share(file_readers.prior_files, 100, "files"),
    Share(file_readers.recogniser_files, 140, "files"),
    Share(file_readers.training_files, 140, "files"),
    Share(file_readers.workflows, 220, "files"),
    Share(file_readers.workflow_names, 40, "files"),
    Share(batch_readers.prompts_files, 200, "files"),
    Share(batch_readers.manifests, 80, "files"),
    Share(host_readers.host_prior_files, 60, "comfy"),
    Share(host_readers.path_names, 160, "comfy"),
    Share(four_d_readers.ply_files, 140, "comfy"),
    Share(four_d_readers.spz_files, 90, "comfy"),
    Share(four_d_readers.glb_files, 110, "comfy"),
    Share(four_d_readers.master_files, 100, "comfy"),
    Share(four_d_readers.viewer_files, 60, "comfy"),
    Share(posting.posted_prompts, 240, "host"),
    Share(posting.executed_prompts, 40, "host"),
)


def of_room(room: str) -> list[Share]:
    return [share for share in PLAN if share.room == room]


def tested_something(ends: dict[str, int]) -> bool:
    """Whether cases got through as well as being refused, in several ways."""
    refused = sum(count for end, count in ends.items() if end.startswith("refused"))
    return len(ends) > 2 and 0 < refused < sum(ends.values())
