"""Checks that need no reading: option values, missing inputs, existing outputs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ProxyPromptSegmentLib.errors import DeviceError, InputError, OutputError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path
from ProxyPromptSegmentLib.imaging.paths import not_there, same_place
from ProxyPromptSegmentLib.inference.tiling.choice import LARGEST_MAGNIFICATION, TileChoice

AN_IMAGE = "an image or segmentation file, or a folder with a DICOM series"
A_CLIP = "a video, a folder of frames, a DICOM clip, a sequence or a volume"


def check_inputs(paths: Iterable[Path], clip: Path | None = None) -> None:
    """Raise an error for inputs that do not exist.

    Args:
        paths: The inputs.
        clip: The one of them that is tracked through.

    Raises:
        InputError: If one is missing, or may not be read.
    """
    for path in paths:
        try:
            there = path.exists()
            readable = not there or os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK)
        except PermissionError:  # a folder above it is closed
            there, readable = True, False
        except OSError as error:
            raise InputError(f"{path} cannot be opened ({error.strerror or error}); check its name.") from None
        if not readable:
            raise InputError(f"{path} may not be read by this user; change its permissions.")
        if not there:
            raise InputError(not_there(path, A_CLIP if path == clip else AN_IMAGE))


def check_torch_settings() -> None:
    """Refuse a setting of PyTorch's allocator that would end the process without a word; call this before torch loads.

    Raises:
        DeviceError: If a variable of the environment is not a list of keys and values.
    """
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        said = os.environ.get(name, "")
        items = re.sub(r"\[[^\]]*\]", "[]", said).split(",")
        if said.strip() and not all(re.fullmatch(r"\s*[a-z_0-9]+\s*:\s*\S+\s*", item) for item in items):
            raise DeviceError(
                f"the environment variable {name} is '{said[:60]}', which PyTorch cannot read; it is a list such as "
                "expandable_segments:True,max_split_size_mb:128. Correct it, or unset it."
            )


def check_outputs(
    outputs: Sequence[tuple[str, Path | None, tuple[str, ...]]], inputs: Iterable[Path], force: bool
) -> None:
    """Raise an error for outputs that cannot or must not be written.

    Args:
        outputs: Option, path and allowed suffixes of each output; a path of None is ignored.
        inputs: Files that are read; they are never written.
        force: Whether results of an earlier run may be replaced.

    Raises:
        UsageError: If two outputs are the same file, or one is an input or lies in an input folder.
        OutputError: If a suffix is unknown, a folder is missing or not writable, or a file exists.
    """
    seen = {same_place(path): "an input" for path in inputs}
    folders = [path for path in seen if path.is_dir()]
    for option, path, suffixes in outputs:
        if path is None:
            continue
        place = same_place(path)
        if place in seen:
            raise UsageError(f"{option} {path} is also {seen[place]}; choose another name.")
        if place.parent in folders:
            raise UsageError(f"{option} {path} lies in a folder that is itself an input; choose another folder.")
        seen[place] = f"the file of {option}"
        check_output_path(path, suffixes)
        refuse_existing(option, path, force)


def with_kept(error: OutputError, written: Sequence[Path]) -> OutputError:
    """Return the error of a command that had written some of its files already, which it names."""
    if not written:
        return error
    kept = f"{', '.join(map(str, written))} {'was' if len(written) == 1 else 'were'} complete before and"
    return OutputError(f"{error} {kept} {'is' if len(written) == 1 else 'are'} kept.", error.remedy)


def refuse_existing(option: str, path: Path, force: bool) -> None:
    """Raise an error if a file would be replaced without consent.

    Raises:
        OutputError: If the file exists and ``force`` is not set.
    """
    if path.exists() and not force:
        raise OutputError(
            f"{option} {path} already exists and is not overwritten; choose another name, or add --force to replace it."
        )


def threshold_of(text: str) -> float:
    """Convert an option's text to a threshold between 0 and 1, for argparse."""
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def share_of(text: str) -> float:
    """Convert an option's text to a share from 0 to below 1, for argparse."""
    value = float(text)
    if not 0 <= value < 1:
        raise ValueError
    return value


def device_of(text: str) -> str:
    """Check an option's text as the name of a device, for argparse."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise ValueError
    return text


def minutes_of(text: str) -> float:
    """Convert an option's text to a time in minutes, for argparse."""
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError
    return value


def count_of(text: str) -> int:
    """Convert an option's text to a number of things, for argparse."""
    value = int(text)
    if not 0 < value < 10**9:
        raise ValueError
    return value


def seed_of(text: str) -> int:
    """Convert an option's text to the seed of what is drawn by chance, for argparse."""
    value = int(text)
    if not 0 <= value < 2**31:
        raise ValueError
    return value


def tiles_of(text: str) -> TileChoice:
    """Convert an option's text to a choice of tiles, for argparse."""
    try:
        return TileChoice.of(text)
    except UsageError:
        raise ValueError from None


share_of.__name__ = "share (allowed: 0 to below 1)"
threshold_of.__name__ = "threshold (allowed: above 0, below 1)"  # argparse prints the function's name for a wrong value
minutes_of.__name__, count_of.__name__ = "time (allowed: above 0)", "number (allowed: 1 or more)"
seed_of.__name__ = "seed (allowed: 0 or more, below 2147483648)"
device_of.__name__ = "device (allowed: auto, cpu, cuda, cuda:N, mps)"
tiles_of.__name__ = f"tiles (allowed: auto, off, on, or a magnification above 1 and at most {LARGEST_MAGNIFICATION:g})"
