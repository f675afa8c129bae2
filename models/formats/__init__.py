"""Readers, writers and key maps."""
