"""Scores of 4D results."""
