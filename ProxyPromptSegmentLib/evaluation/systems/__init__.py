"""Segmentation systems that the papers compare with, on the same cases, splits and budget as ours."""
