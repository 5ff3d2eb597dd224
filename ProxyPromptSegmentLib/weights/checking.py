"""Compares files with the registry: whether one is what its entry says, and which of those on a stick are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.weights.entry import SUFFIXES, ModelEntry
from ProxyPromptSegmentLib.weights.hashing import digests, sha256


@dataclass(frozen=True)
class Recognised:
    """A file that somebody brought.

    Attributes:
        path: Where it lies.
        sha256: Its hash.
        entry: Whose file it is; None if nobody's.
    """

    path: Path
    sha256: str
    entry: ModelEntry | None


def recognise(places: Iterable[Path], entries: Iterable[ModelEntry]) -> list[Recognised]:
    """Looks into files and folders for the registry's files, by their hash and not by their name.

    Args:
        places: Files, and folders that are searched to the bottom.
        entries: What is looked for.

    Returns:
        Every file that was named, and those of the folders that were recognised or look like weights.

    Raises:
        CheckpointError: If a place is not there.
    """
    known = {entry.sha256.lower(): entry for entry in entries if entry.sha256}
    sizes = {entry.bytes for entry in known.values()}
    found = []
    for place in places:
        if not place.exists():
            raise CheckpointError(f"{place} does not exist; give a file of weights, or a folder with such files.")
        named = place.is_file()
        for path in [place] if named else sorted(place.rglob("*")):
            if not path.is_file():
                continue
            if None in sizes or path.stat().st_size in sizes:
                digest = sha256(path)
            elif named or path.suffix.lower() in SUFFIXES:
                digest = ""
            else:
                continue
            if named or digest in known or path.suffix.lower() in SUFFIXES:
                found.append(Recognised(path, digest, known.get(digest)))
    return found


def check_file(entry: ModelEntry, path: Path, expected: str | None, progress: Progress | None = None) -> str | None:
    """Compares a file with its entry; tells what is wrong, or None.

    Args:
        entry: What it should be.
        path: Where it lies.
        expected: SHA-256; None checks the size alone.
        progress: Told of each byte that was read.
    """
    size = path.stat().st_size
    if entry.bytes is not None and size != entry.bytes:
        return f"it has {size} bytes, {entry.bytes} are right"
    told: Callable[[int], None] | None = None
    if progress:
        progress.start(size, f"checking {entry.name}")
        told = progress.step
    strong, weak = digests(path, told)
    if progress:
        progress.close()
    if expected and strong != expected:
        return f"it has SHA-256 {strong[:12]}..., {expected[:12]}... is right: it is damaged or another file"
    if not weak.startswith(entry.md5_prefix):
        return (
            f"its MD5 begins with {weak[: len(entry.md5_prefix)]}, and not with {entry.md5_prefix} as its publisher "
            "says: the registry is wrong, please report it"
        )
    return None
