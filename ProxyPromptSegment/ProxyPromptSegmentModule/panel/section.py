"""The base class of the panel's sections."""

from __future__ import annotations


class Section:
    """A view of some choices; knows only its widgets, the shared state and its constructor's other arguments."""

    def refresh(self) -> None:
        """Show the state."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop what the section has started; called when the module is unloaded."""
