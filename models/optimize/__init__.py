"""Loops that update parameters: stages, training, checkpoints."""
