"""Measurements of a model that reads its support, on any data sets and for any checkpoint."""
