"""Reads many damaged files through the library, in processes with limits that are replaced where one dies."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from fuzz_command import MOST_BYTES, MOST_SECONDS

FILE_KINDS = ("image", "mask", "frames")
"""What is read as voxels; the rest is only opened by commands, or imported."""


def read(path: Path, kind: str) -> str:
    """Reads a file as the program does; returns ``read`` with a hash, or ``refused``."""
    from ProxyPromptSegmentLib.errors import ProxyPromptError
    from ProxyPromptSegmentLib.frames import open_frames
    from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
    from ProxyPromptSegmentLib.imaging.volumes import read_volume
    from ProxyPromptSegmentLib.library.archive import import_zip
    from ProxyPromptSegmentLib.library.store import SupportLibrary

    digest = hashlib.sha256()
    try:
        if kind == "zip":
            with tempfile.TemporaryDirectory() as folder:
                answers = import_zip(SupportLibrary(folder), path)
            if any(answer.entry is None for answer in answers):
                return "refused"
            digest.update(b"taken")
        elif kind == "mask":
            marked = read_segmentation(path)
            digest.update(repr((marked.geometry, marked.names)).encode())
            for segment in marked.segments:
                digest.update(segment.mask.tobytes())
        elif kind == "frames":
            source = open_frames(path)
            digest.update(repr((source.geometry, source.index)).encode())
            for _, frame in source:
                digest.update(getattr(frame, "tobytes", lambda: b"bad")())
        else:
            volume = read_volume(path)
            digest.update(repr(volume.geometry).encode())
            digest.update(volume.array.tobytes())
    except ProxyPromptError as error:
        said = str(error)
        return "refused" if said and "\n" not in said else "refused without a sentence"
    except MemoryError:
        return "refused"  # one sentence of the command: memory ran out
    return f"read {digest.hexdigest()}"


def work(listed: Path, compare: bool) -> None:
    """Reads the files of a list, or compares them with another reading, and reports the outcome of each."""
    from fuzz_compare import against_others

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, lambda *_: os._exit(99))
    warnings.simplefilter("ignore")
    for one in json.loads(listed.read_text()):
        signal.alarm(MOST_SECONDS)
        try:
            said = (against_others if compare else read)(Path(one["path"]), one["kind"])
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            said = f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"
        signal.alarm(0)
        sys.stdout.write(json.dumps([one["path"], said]) + "\n")
        sys.stdout.flush()


def all_read(files: list[dict[str, str]], folder: Path, program: Path, compare: bool = False) -> dict[str, str]:
    """Returns the outcome of each file; a process that dies is replaced.

    Args:
        files: Path and kind of each.
        folder: Where the list of files goes.
        program: The script that calls `work` with its ``--work`` or, to ``compare``, ``--compare``.
        compare: Compare what is read with another reading. A reader that dies of a file says nothing about it.
    """
    said: dict[str, str] = {}
    while left := [one for one in files if one["path"] not in said]:
        listed = folder / "list.json"
        listed.write_text(json.dumps(left))
        done = subprocess.run(
            [sys.executable, str(program), "--compare" if compare else "--work", str(listed)],
            capture_output=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            if line.startswith("["):
                path, words = json.loads(line)
                said[path] = words
        rest = [one["path"] for one in left if one["path"] not in said]
        if rest:
            dead = "HANGS" if done.returncode == 99 else f"ABORTS ({done.returncode})"
            said[rest[0]] = f"alone: the other reader {dead}" if compare else dead
    return said
