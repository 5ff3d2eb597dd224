"""Annotated cases that prompt a model: cases, slice pairs, matching with a target. Imports no torch."""
