"""Ablations: sets of workflow variants (one .json each), their scores and their reports."""
