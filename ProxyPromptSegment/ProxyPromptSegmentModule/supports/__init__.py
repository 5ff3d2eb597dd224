"""The supports: table, rows, sources, and storage in the scene."""
