"""The state of a training on disk: written completely or not at all, and refused in words if it is damaged."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.imaging.partial_files import alone_in


@contextmanager
def writing_state(path: Path) -> Iterator[Path]:
    """Yield the path to write a state to; it replaces the former one when the block ends.

    Raises:
        OutputError: If it cannot be written.
    """
    with safe_output(path) as partial:
        try:
            yield partial
        except (SafetensorError, RuntimeError) as error:  # a full disk, in the words of the libraries
            raise OSError(str(error).splitlines()[0][:200]) from error


@contextmanager
def reading_state(path: Path) -> Iterator[None]:
    """Read a state in the block.

    Raises:
        CheckpointError: If the state is damaged, or not what such a training has.
    """
    try:
        yield
    except (
        OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        if type(error).__name__ == "OutOfMemoryError":
            raise
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(
            f"{path} is damaged, or not the state of this training ({why}); remove it to begin again, or choose "
            "another folder."
        ) from error


@contextmanager
def training_alone(out: Path) -> Iterator[None]:
    """Keep other trainings out of a folder while the block runs.

    Raises:
        OutputError: If another program trains there, or the folder cannot be created.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with alone_in(out):
            yield
    except BlockingIOError:
        raise OutputError(f"another program is training in {out}; wait for it, or choose another folder.") from None
    except FileExistsError:
        raise OutputError(f"{out} is a file; choose a folder.") from None
