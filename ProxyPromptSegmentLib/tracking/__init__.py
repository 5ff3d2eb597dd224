"""Tracking of objects from frame to frame with SAM 2's memory."""
