"""What can be refused before anything is read or computed: option values, missing inputs, outputs in the way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError, OutputError, UsageError
from ProxyPromptSegmentLib.volumes import check_output_path, suffix_of

MOST_SLICES = 100_000


def parse_slices(text: str | None, option: str) -> list[tuple[int | None, int | None]] | None:
    """Reads ``3``, ``3:8`` (both ends included), ``3:``, ``:8`` or several of them joined by commas.

    Returns:
        Ranges ``(first, last)`` with None for an open end; None for ``auto`` or no text at all.

    Raises:
        UsageError: If the text is something else.
    """
    if text is None or text.strip().lower() in ("", "auto", "all"):
        return None
    ranges: list[tuple[int | None, int | None]] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d*)\s*(:?)\s*(\d*)\s*", part)
        if not found or not (found[1] or found[2]) or (found[3] and not found[2]):
            raise UsageError(
                f"{option} is '{text}'; write slices as 12, as 5:20 (from 5 to 20, both included, counted from 0), or "
                "several joined by commas."
            )
        first = int(found[1]) if found[1] else None
        last = int(found[3]) if found[3] else (None if found[2] else first)
        if first is not None and last is not None and first > last:
            raise UsageError(f"{option} is '{text}'; the first slice of a range must not be above its last.")
        if max(first or 0, last or 0) > MOST_SLICES:
            raise UsageError(f"{option} is '{text}'; no volume has so many slices.")
        ranges.append((first, last))
    return ranges


def expand_slices(ranges: Sequence[tuple[int | None, int | None]] | None, count: int) -> list[int] | None:
    """Slice numbers of ranges on a stack of ``count``; numbers beyond it stay in, to be refused by name."""
    if ranges is None:
        return None
    numbers: list[int] = []
    for first, last in ranges:
        numbers += range(first or 0, (count - 1 if last is None else last) + 1)
    return list(dict.fromkeys(numbers))


def check_inputs(paths: Iterable[Path]) -> None:
    """Refuses inputs that are not there.

    Raises:
        InputError: If one is missing.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; give an image or segmentation file, or a folder with a DICOM series.")


def check_outputs(
    outputs: Sequence[tuple[str, Path | None, tuple[str, ...]]], inputs: Iterable[Path], force: bool
) -> None:
    """Refuses outputs that cannot or must not be written.

    Args:
        outputs: Option, path and allowed suffixes of each.
        inputs: Files that are read; they are never written.
        force: Whether results of an earlier run may be replaced.

    Raises:
        UsageError: If two outputs are the same file, or one is an input.
        OutputError: If a suffix is unknown, a folder is missing or not writable, or a file exists.
    """
    seen: dict[Path, str] = {path.resolve(): "an input" for path in inputs}
    for option, path, suffixes in outputs:
        if path is None:
            continue
        former = seen.get(path.resolve())
        if former:
            raise UsageError(f"{option} {path} is {former} at the same time; give it a name of its own.")
        seen[path.resolve()] = f"the file of {option}"
        check_output_path(path, suffixes)
        refuse_existing(option, path, force)


def refuse_existing(option: str, path: Path, force: bool) -> None:
    """Raises OutputError if a file is there that may not be replaced."""
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


def is_single_picture(path: Path) -> bool:
    """Whether an output can hold one slice only."""
    return suffix_of(path) == ".png"
