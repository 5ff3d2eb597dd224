"""Annotated cases that prompt a model: pairs, cases, matching with a target. Imports no torch."""
