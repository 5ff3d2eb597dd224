"""Hashes of files, read in blocks."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

_PIECE = 1 << 20


def digests(path: Path, told: Callable[[int], None] | None = None) -> tuple[str, str]:
    """Return SHA-256 and MD5 of a file in hexadecimal; MD5 only because SAM's file names contain its beginning.

    Args:
        path: The file.
        told: Receives the number of bytes of each block.
    """
    strong, weak = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            strong.update(piece)
            weak.update(piece)
            if told:
                told(len(piece))
    return strong.hexdigest(), weak.hexdigest()


def sha256(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            digest.update(piece)
    return digest.hexdigest()


def weights_sha256(path: Path) -> str:
    """Return the SHA-256 of a file of weights, which is read once per process as long as it stays the same.

    Several steps need it (finding a model, loading it, the report), and an official file has gigabytes. A file counts
    as the same while its path, size, time of change and inode stay.
    """
    facts = path.stat()
    return _remembered(path.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ino)


@functools.lru_cache(maxsize=64)
def _remembered(path: Path, size: int, mtime_ns: int, inode: int) -> str:  # noqa: ARG001 - they are the key
    return sha256(path)
