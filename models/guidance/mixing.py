"""How the terms of a stage share its steps: by probabilities, or all of them in every step."""

import math

import torch


def parse_probabilities(text: str, terms: int) -> tuple[float, ...] | None:
    """Probabilities from "0.5, 0.25, 0.25", one per term; None for an empty text, which means a weighted sum of all terms.

    4D-fy's paper, text and code define the third probability in three ways that agree at one point only, so all of them are
    explicit here and must sum to 1 within 1e-3.
    """
    if not text.strip():
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f'Probabilities must be numbers between commas, such as "0.5, 0.25, 0.25"; got "{text}".') from None
    if len(values) != terms:
        raise ValueError(f"{len(values)} probabilities for {terms} terms. Give one per connected term, or none to add up all terms in every step.")
    if any(not math.isfinite(value) or value < 0 for value in values) or sum(values) == 0:
        raise ValueError(f'Probabilities must be finite, not negative and not all 0; got "{text}".')
    if abs(sum(values) - 1.0) > 1e-3:
        normalised = ", ".join(f"{value / sum(values):.4g}" for value in values)
        raise ValueError(f'Probabilities must sum to 1, but "{text}" sums to {sum(values):.4g}. Normalised they are "{normalised}".')
    return values


def draw_term(probabilities: tuple[float, ...], generator: torch.Generator) -> int:
    """One index, by the cumulative probabilities of one uniform number."""
    position = float(torch.rand((), generator=generator, dtype=torch.float64)) * sum(probabilities)
    cumulative = 0.0
    for index, probability in enumerate(probabilities):
        cumulative += probability
        if position < cumulative:
            return index
    return max(index for index, probability in enumerate(probabilities) if probability > 0)
