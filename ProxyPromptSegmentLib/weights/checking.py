"""Verification of files against the registry: whether a file matches its entry, and which files are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.imaging.paths import not_there
from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.weights.entry import SUFFIXES, ModelEntry
from ProxyPromptSegmentLib.weights.hashing import digests, sha256


@dataclass(frozen=True)
class Recognised:
    """A file offered for import.

    Attributes:
        path: Path of the file.
        sha256: SHA-256 of the file.
        entry: The entry that it belongs to; None if unknown.
    """

    path: Path
    sha256: str
    entry: ModelEntry | None


def recognise(places: Iterable[Path], entries: Iterable[ModelEntry]) -> list[Recognised]:
    """Find files of the registry among files and folders, by their hash, not by their name.

    Args:
        places: Files, and folders that are searched recursively.
        entries: The entries to look for.

    Returns:
        Every file given, and those in the folders that were recognised or look like weights.

    Raises:
        CheckpointError: If a place does not exist.
    """
    known = {entry.sha256.lower(): entry for entry in entries if entry.sha256}
    sizes = {entry.bytes for entry in known.values()}
    found = []
    for place in places:
        if not place.exists():
            raise CheckpointError(not_there(place, "a file of weights, or a folder with such files"))
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
    """Verify a file against its entry; return what is wrong, or None.

    Args:
        entry: The entry that the file should match.
        path: Path of the file.
        expected: SHA-256; None verifies only the size and the MD5 prefix.
        progress: Receives the bytes read.
    """
    size = path.stat().st_size
    if entry.bytes is not None and size != entry.bytes:
        return f"it has {size} bytes instead of {entry.bytes}"
    told: Callable[[int], None] | None = None
    if progress:
        progress.start(size, f"checking {entry.name}")
        told = progress.step
    strong, weak = digests(path, told)
    if progress:
        progress.close()
    if expected and strong != expected:
        return f"it has SHA-256 {strong[:12]}... instead of {expected[:12]}...: it is damaged or another file"
    if not weak.startswith(entry.md5_prefix):
        return (
            f"its MD5 begins with {weak[: len(entry.md5_prefix)]}, not with {entry.md5_prefix} as its publisher "
            "states: the registry is wrong, please report it"
        )
    return None
