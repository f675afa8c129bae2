"""What a file says about where it comes from: the graph that made it, and that a trained model did."""

import json
from dataclasses import dataclass, field

KEY = "bloom4d"
"""The metadata key of ours, in every kind of file."""

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media created algorithmically with a model trained on sampled content."""


def mark(version: str, trained: bool) -> dict[str, str]:
    """The pack and its version; with a trained model also that the file is AI-generated, in words and in IPTC's term."""
    made_by = {"generator": f"Bloom4D {version}"}
    return {**made_by, "description": "AI-generated", "digitalSourceType": TRAINED} if trained else made_by


@dataclass(frozen=True)
class Provenance:
    """texts: metadata as the host's savers write it (`prompt`, `workflow`, ..., JSON). mark: what `mark` returned, or nothing."""

    texts: dict[str, str] = field(default_factory=dict)
    mark: dict[str, str] = field(default_factory=dict)

    def metadata(self, document: dict) -> dict[str, str]:
        """The metadata of a safetensors file of ours: `document`, which describes its content, joins the mark under our key."""
        return {**self.texts, KEY: json.dumps({**self.mark, **document}, sort_keys=True)}
