"""Frozen networks that segment what a prompt says: SAM, SAM 2 and compact ones of the same architecture."""
