"""The cache of weights: one folder for every process of a user, that holds the right file under a name, or none.

``NAME/FILE`` is a file whose hash was found right before it got this name. ``partial`` holds what is still coming,
``locks`` makes processes wait for each other. Nothing else is written.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.user_folders import cache_folder
from ProxyPromptSegmentLib.weights.checking import check_file
from ProxyPromptSegmentLib.weights.connection import RefusedError
from ProxyPromptSegmentLib.weights.download import Manner, fetch
from ProxyPromptSegmentLib.weights.entry import ModelEntry
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.transfer import Part, cannot_write, copy_file

_RESERVE = 1 << 20
_POLL = 0.1


class ModelCache:
    """The folder of downloaded and imported weights."""

    def __init__(self, folder: Path | None = None) -> None:
        """Uses ``folder``, or the one of `cache_folder`; nothing is made before something is fetched."""
        self.folder = folder or cache_folder()

    def path_of(self, entry: ModelEntry) -> Path:
        """Where an entry's file lies, or would."""
        return self.folder / entry.name / entry.file

    def is_installed(self, entry: ModelEntry) -> bool:
        """Whether the file is there with the promised size; the hash is looked at before it is loaded."""
        path = self.path_of(entry)
        return path.is_file() and entry.bytes in (None, path.stat().st_size)

    def expected(self, entry: ModelEntry) -> str | None:
        """The hash that the file has to have: the registry's, or the one that was remembered at the import."""
        if entry.sha256:
            return entry.sha256.lower()
        try:
            return self._memory(entry).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None

    def kept(self, entry: ModelEntry) -> int:
        """How many bytes of an interrupted download are there."""
        return self._part(entry, entry.bytes or 0).received

    def download(
        self,
        entry: ModelEntry,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        manner: Manner | None = None,
    ) -> Path | None:
        """Fetches an entry's file, goes on where an earlier attempt stopped, and checks it before it gets its name.

        Args:
            entry: What to fetch.
            progress: Told of each received byte; begins again where a source begins again.
            cancel: Stops; what was received is kept.
            manner: Time-outs, and whether http is allowed.

        Returns:
            Where the file lies; None if it was cancelled.

        Raises:
            CheckpointError: If no source gave the right file, or the registry does not say what the right one is.
            OutputError: If the cache cannot be written, or the disk is full.
        """
        if not (entry.sha256 and entry.bytes and entry.urls):
            raise CheckpointError(
                f"'{entry.name}' cannot be downloaded: its entry lacks an address, a size or a hash that could be "
                f"trusted. Fetch {entry.file} yourself and use `proxyprompt models import FILE`."
            )
        if self._is_right(entry):  # before the lock, which a cache that others may only read does not allow
            return self.path_of(entry)
        progress, cancel, part = progress or Progress(), cancel or CancelToken(), self._part(entry, entry.bytes)
        with self._locked(entry, cancel, progress) as held:
            if not held:
                return None
            if self._is_right(entry):  # perhaps another process fetched it while this one waited
                return self.path_of(entry)
            self._enough_space(part)
            meter = _Meter(progress, part.size, entry.name)
            try:
                if not fetch(
                    entry.name, entry.urls, part, lambda: self._wrong(entry, part), meter, cancel, manner or Manner()
                ):
                    return None
                return self._install(entry, part)
            except OutputError:
                part.discard()
                raise
            finally:
                progress.close()

    def take(
        self, entry: ModelEntry, source: Path, progress: Progress | None = None, cancel: CancelToken | None = None
    ) -> Path | None:
        """Copies a file that somebody brought into the cache, if its hash is right.

        An entry without a hash takes any file, and the hash of this one is remembered: from then on only it is right.

        Returns:
            Where the file lies; None if it was cancelled.

        Raises:
            CheckpointError: If it is another file.
            OutputError: If the cache cannot be written, or the disk is full.
        """
        progress, cancel = progress or Progress(), cancel or CancelToken()
        with self._locked(entry, cancel, progress) as held:
            if not held:
                return None
            if self._is_right(entry):
                return self.path_of(entry)
            part = self._part(entry, entry.bytes or source.stat().st_size)
            part.discard()
            self._enough_space(part)
            try:
                copy_file(source, part, _Meter(progress, part.size, entry.name), cancel)
                if cancel.cancelled:
                    return None
                if reason := self._wrong(entry, part):
                    raise CheckpointError(f"{source} is not the file of '{entry.name}': {reason}.")
                return self._install(entry, part, remember=not entry.sha256)
            except RefusedError as refusal:
                raise CheckpointError(f"'{entry.name}' was not imported: {refusal}.") from None
            finally:
                part.discard()
                progress.close()

    def check(self, entry: ModelEntry, progress: Progress | None = None) -> str | None:
        """Reads an installed file and compares; tells what is wrong, or None.

        Raises:
            CheckpointError: If it is not installed.
        """
        path = self.path_of(entry)
        if not path.is_file():
            raise CheckpointError(f"'{entry.name}' is not installed ({path} is missing).")
        return check_file(entry, path, self.expected(entry), progress)

    def remove(self, entry: ModelEntry) -> int:
        """Removes an entry's file and what is left of interrupted downloads; returns the bytes that became free.

        Raises:
            OutputError: If it cannot be removed.
        """
        path, part = self.path_of(entry), self._part(entry, entry.bytes or 0)
        freed = part.received
        part.discard()
        try:
            freed += path.stat().st_size if path.is_file() else 0
            for file in (path, self._memory(entry)):
                file.unlink(missing_ok=True)
            with suppress(OSError):  # somebody else's file may lie in it
                path.parent.rmdir()
        except OSError as error:
            raise OutputError(f"{path} cannot be removed ({error.strerror}); change its permissions.") from None
        return freed

    def _part(self, entry: ModelEntry, size: int) -> Part:
        # With the hash in its name: what is left of a former version of an entry is not gone on with.
        return Part(self.folder / "partial" / f"{entry.name}-{(entry.sha256 or 'import')[:16].lower()}.part", size)

    def _memory(self, entry: ModelEntry) -> Path:
        return self.path_of(entry).with_name(f"{entry.file}.sha256")

    def _is_right(self, entry: ModelEntry) -> bool:
        expected = self.expected(entry)
        return bool(expected) and self.is_installed(entry) and sha256(self.path_of(entry)) == expected

    def _wrong(self, entry: ModelEntry, part: Part) -> str | None:
        return check_file(entry, part.path, entry.sha256 and entry.sha256.lower())

    def _enough_space(self, part: Part) -> None:
        """Refuses to begin what will not fit.

        Raises:
            OutputError: If less is free than is still to come.
        """
        missing, free = part.size - part.received + _RESERVE, shutil.disk_usage(self.folder).free
        if free < missing:
            raise OutputError(
                f"{missing / 1e6:.1f} MB are needed in {self.folder}, {free / 1e6:.1f} MB are free; free some space, "
                "or set PROXYPROMPT_CACHE to a folder on another disk."
            )

    def _install(self, entry: ModelEntry, part: Part, remember: bool = False) -> Path:
        """Gives a checked file its name."""
        path = self.path_of(entry)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.path.open("rb+") as file:
                os.fsync(file.fileno())
            if remember:
                self._memory(entry).write_text(sha256(part.path) + "\n", encoding="ascii")
            os.replace(part.path, path)
        except OSError as error:
            raise cannot_write(path, error) from None
        part.discard()
        return path

    @contextmanager
    def _locked(self, entry: ModelEntry, cancel: CancelToken, progress: Progress) -> Iterator[bool]:
        """Waits until no other process works on this entry; False if it was cancelled meanwhile.

        Raises:
            OutputError: If the cache cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            for folder in (self.folder / "locks", self.folder / "partial"):
                folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "locks" / f"{entry.name}.lock")
            waiting = False
            while not cancel.cancelled:
                try:
                    lock.acquire(timeout=0)
                    break
                except Timeout:
                    if not waiting:
                        progress.start(entry.bytes or 0, f"{entry.name}: another program fetches it, waiting")
                        waiting = True
                    time.sleep(_POLL)
        except OSError as error:
            raise cannot_write(self.folder / "x", error) from None
        try:
            if waiting:
                progress.close()
            yield lock.is_locked
        finally:
            lock.release()


class _Meter:
    """Turns positions into steps, and begins again where a source begins again."""

    def __init__(self, progress: Progress, total: int, what: str) -> None:
        self.progress, self.total, self.what, self.at = progress, total, what, -1

    def __call__(self, position: int) -> None:
        if self.at < 0 or position < self.at:
            self.progress.start(self.total, self.what)
            self.at = 0
        if position > self.at:
            self.progress.step(position - self.at)
        self.at = position
