"""The sections of the panel; no computation."""
