"""Evaluation of models by reproducible protocols."""
