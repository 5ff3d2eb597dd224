"""Where an adaptation keeps its state until it has ended; read without torch."""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.user_folders import cache_folder

STATE = "state.json"
KEEPING = ".keeping-"
"""Beginning of the name of the folder in which a result is written before it is registered."""


def state_folder(name: str) -> Path:
    """Return the folder in which an adaptation of this name keeps its state."""
    return cache_folder() / "adapting" / name


def is_begun(name: str) -> bool:
    """Return whether an adaptation of this name was begun and has not ended; the same call continues it."""
    return (state_folder(name) / STATE).is_file()
