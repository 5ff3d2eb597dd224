"""Frozen models that segment what a prompt says."""
