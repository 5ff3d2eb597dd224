"""The cache of weights: one folder per user, shared by all processes, that contains only verified files.

``NAME/FILE`` is a file that was moved into place after its hash was verified. ``partial`` contains unfinished
downloads, ``locks`` the lock files between processes. Nothing else is written.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.imaging.paths import same_place
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.user_folders import cache_folder
from ProxyPromptSegmentLib.weights.checking import check_file
from ProxyPromptSegmentLib.weights.connection import RefusedError
from ProxyPromptSegmentLib.weights.download import Manner, fetch
from ProxyPromptSegmentLib.weights.entry import ModelEntry, ModelKind
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.plausible import says_no_model
from ProxyPromptSegmentLib.weights.transfer import Part, cannot_write, copy_file

_RESERVE = 1 << 20
_POLL = 0.1


class ModelCache:
    """The folder of downloaded and imported weights."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use ``folder``, or by default `cache_folder`; it is created by the first download or import."""
        self.folder = folder or cache_folder()

    def path_of(self, entry: ModelEntry) -> Path:
        """Return the path of an entry's file, whether it exists or not."""
        return self.folder / entry.name / entry.file

    def is_installed(self, entry: ModelEntry) -> bool:
        """Return whether the file exists with the registered size; its hash is verified before it is loaded."""
        path = self.path_of(entry)
        return path.is_file() and entry.bytes in (None, path.stat().st_size)

    def expected(self, entry: ModelEntry) -> str | None:
        """Return the hash that the file must have: the registry's, or the one recorded at its import."""
        if entry.sha256:
            return entry.sha256.lower()
        try:
            return self._memory(entry).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None

    def kept(self, entry: ModelEntry) -> int:
        """Return the number of bytes kept from an interrupted download."""
        return self._part(entry, entry.bytes or 0).received

    def download(
        self,
        entry: ModelEntry,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        manner: Manner | None = None,
    ) -> Path | None:
        """Download an entry's file, resuming an earlier attempt, and verify it before it is moved into place.

        Args:
            entry: The entry to download.
            progress: Receives the bytes; restarts if a source restarts.
            cancel: Stops the download; the received bytes are kept.
            manner: Timeouts, and whether http is allowed.

        Returns:
            Where the file lies; None if it was cancelled.

        Raises:
            CheckpointError: If no source has the right file, or the registry has no hash to verify it.
            OutputError: If the cache cannot be written, or the disk is full.
        """
        if not (entry.sha256 and entry.bytes and entry.urls):
            raise CheckpointError(
                f"'{entry.name}' cannot be downloaded: its entry lacks an address, a size or a trusted hash",
                Remedy(kind=RemedyKind.IMPORT_MODEL, model=entry.name, file=entry.file),
            )
        if self._is_right(entry):  # before the lock, which a read-only cache does not allow
            return self.path_of(entry)
        progress, cancel, part = progress or Progress(), cancel or CancelToken(), self._part(entry, entry.bytes)
        with self._locked(entry, cancel, progress) as held:
            if not held:
                return None
            if self._is_right(entry):  # another process may have downloaded it meanwhile
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
        """Import a file into the cache if its hash is right.

        An entry without a hash accepts any file; the file's hash is recorded, and from then on only this file is valid.

        Returns:
            Where the file lies; None if it was cancelled.

        Raises:
            CheckpointError: If it is a different file.
            OutputError: If the cache cannot be written, or the disk is full.
        """
        progress, cancel = progress or Progress(), cancel or CancelToken()
        own = entry.kind in (ModelKind.MODEL, ModelKind.GENERATOR)
        if own and not entry.sha256 and (unlike := says_no_model(source)):
            raise CheckpointError(f"{source} is not the file of '{entry.name}': {unlike}.")
        with self._locked(entry, cancel, progress) as held:
            if not held:
                return None
            if self._is_right(entry):
                if not entry.sha256 and sha256(source) != self.expected(entry):
                    raise CheckpointError(f"'{entry.name}' is on this machine as another file; remove that first.")
                return self.path_of(entry)
            part = self._part(entry, entry.bytes or source.stat().st_size)
            if same_place(source) == same_place(part.path):  # a download that was killed when it was complete
                return self._received(entry, part)
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
        """Verify an installed file; return what is wrong, or None.

        Raises:
            CheckpointError: If it is not installed.
        """
        path = self.path_of(entry)
        if not path.is_file():
            raise CheckpointError(f"'{entry.name}' is not installed ({path} is missing).")
        return check_file(entry, path, self.expected(entry), progress)

    def remove(self, entry: ModelEntry) -> int:
        """Remove an entry's file, interrupted downloads of it and the lock of an own one; return the bytes freed.

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
            with suppress(OSError):  # it may contain other files
                path.parent.rmdir()
            if not entry.urls:  # nobody waits for the download of an own model
                with suppress(OSError):
                    self._lock_of(entry).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path} cannot be removed ({error.strerror}); change its permissions.") from None
        return freed

    def _part(self, entry: ModelEntry, size: int) -> Part:
        # The name contains the hash, so that a partial download of a former version is not resumed.
        return Part(self.folder / "partial" / f"{entry.name}-{(entry.sha256 or 'import')[:16].lower()}.part", size)

    def _lock_of(self, entry: ModelEntry) -> Path:
        return self.folder / "locks" / f"{entry.name}.lock"

    def _memory(self, entry: ModelEntry) -> Path:
        return self.path_of(entry).with_name(f"{entry.file}.sha256")

    def _is_right(self, entry: ModelEntry) -> bool:
        expected = self.expected(entry)
        return bool(expected) and self.is_installed(entry) and sha256(self.path_of(entry)) == expected

    def _wrong(self, entry: ModelEntry, part: Part) -> str | None:
        return check_file(entry, part.path, entry.sha256 and entry.sha256.lower())

    def _enough_space(self, part: Part) -> None:
        """Reject a download that will not fit.

        Raises:
            OutputError: If there is less free space than bytes to come.
        """
        missing, free = part.size - part.received + _RESERVE, shutil.disk_usage(self.folder).free
        if free < missing:
            raise OutputError(
                f"{missing / 1e6:.1f} MB are needed in {self.folder}, {free / 1e6:.1f} MB are free; free some space, "
                "or set PROXYPROMPT_CACHE to a folder on another disk."
            )

    def _received(self, entry: ModelEntry, part: Part) -> Path:
        """Move a partial file into place if it is complete; otherwise it stays, to be resumed.

        Raises:
            CheckpointError: If it is not.
        """
        if reason := self._wrong(entry, part):
            raise CheckpointError(f"{part.path} is not the file of '{entry.name}': {reason}.")
        return self._install(entry, part, remember=not entry.sha256)

    def _install(self, entry: ModelEntry, part: Part, remember: bool = False) -> Path:
        """Move a verified file into place."""
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
        """Hold the entry's lock, waiting for other processes; yield False if cancelled meanwhile.

        Raises:
            OutputError: If the cache cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            for folder in (self.folder / "locks", self.folder / "partial"):
                folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock_of(entry))
            waiting = False
            while not cancel.cancelled:
                try:
                    lock.acquire(timeout=0)
                    break
                except Timeout:
                    if not waiting:
                        progress.start(entry.bytes or 0, f"{entry.name}: another program is downloading it, waiting")
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
    """A converter of positions into progress steps, which restarts if a source restarts."""

    def __init__(self, progress: Progress, total: int, what: str) -> None:
        self.progress, self.total, self.what, self.at = progress, total, what, -1

    def __call__(self, position: int) -> None:
        if self.at < 0 or position < self.at:
            self.progress.start(self.total, self.what)
            self.at = 0
        if position > self.at:
            self.progress.step(position - self.at)
        self.at = position
