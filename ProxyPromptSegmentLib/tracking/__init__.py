"""Segmenting frame by frame with SAM 2's memory."""
