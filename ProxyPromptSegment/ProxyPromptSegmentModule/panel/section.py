"""A part of the panel."""

from __future__ import annotations


class Section:
    """A view of some choices: knows its widgets, the shared state and what its constructor lists, and no other part."""

    def refresh(self) -> None:
        """Show the state."""
        raise NotImplementedError

    def close(self) -> None:
        """End what goes on; called when the module is unloaded."""
