"""What can be refused before anything is read: option values, missing inputs, outputs in the way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError, OutputError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path


def check_inputs(paths: Iterable[Path]) -> None:
    """Refuses inputs that are not there.

    Raises:
        InputError: If one is missing.
    """
    for path in paths:
        if not path.exists():
            raise InputError(
                f"{path} does not exist; give an image or segmentation file, or a folder with a DICOM series."
            )


def check_outputs(
    outputs: Sequence[tuple[str, Path | None, tuple[str, ...]]], inputs: Iterable[Path], force: bool
) -> None:
    """Refuses outputs that cannot or must not be written.

    Args:
        outputs: Option, path and allowed suffixes of each.
        inputs: Files that are read; they are never written.
        force: Whether results of an earlier run may be replaced.

    Raises:
        UsageError: If two outputs are the same file, or one is an input or lies in an input folder.
        OutputError: If a suffix is unknown, a folder is missing or not writable, or a file exists.
    """
    seen = {path.resolve(): "an input" for path in inputs}
    folders = [path for path in seen if path.is_dir()]
    for option, path, suffixes in outputs:
        if path is None:
            continue
        place = path.resolve()
        if place in seen:
            raise UsageError(f"{option} {path} is {seen[place]} at the same time; give it a name of its own.")
        if place.parent in folders:
            raise UsageError(f"{option} {path} lies in a folder that is read as a whole; choose another folder.")
        seen[place] = f"the file of {option}"
        check_output_path(path, suffixes)
        refuse_existing(option, path, force)


def refuse_existing(option: str, path: Path, force: bool) -> None:
    """Refuses to replace a file.

    Raises:
        OutputError: If a file is there and ``force`` is not set.
    """
    if path.exists() and not force:
        raise OutputError(
            f"{option} {path} exists already and is not overwritten; choose another name, or add --force to replace it."
        )


def threshold_of(text: str) -> float:
    """A threshold between 0 and 1, for argparse."""
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def device_of(text: str) -> str:
    """A device name, for argparse."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise ValueError
    return text


threshold_of.__name__ = "threshold (allowed: above 0, below 1)"  # what argparse calls a wrong value
device_of.__name__ = "device (allowed: auto, cpu, cuda, cuda:N, mps)"
