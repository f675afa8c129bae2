"""Procedural 4D objects: the data the shipped demo weights were trained on."""
