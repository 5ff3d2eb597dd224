"""Transfers of weights in a background thread, one at a time, which can be polled and cancelled; no Qt, no MRML."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ProxyPromptSegmentLib.errors import as_user_error
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.states import TransferState
from ProxyPromptSegmentModule.translation import _

_SPEED_SECONDS = 5.0
_SHORTEST_SECONDS = 0.2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TransferProgress:
    """Progress of a transfer.

    Attributes:
        state: Whether it waits, runs or has ended.
        what: The file or stage, in words.
        received: Bytes so far, including those of earlier attempts.
        total: Total number of bytes; 0 while unknown.
        bytes_per_second: Speed over the last seconds; 0 while unknown.
        seconds_left: Estimated remaining time; None while unknown.
        error: The sentence of a failure; "" if there is none.
    """

    state: TransferState
    what: str = ""
    received: int = 0
    total: int = 0
    bytes_per_second: float = 0.0
    seconds_left: float | None = None
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether the transfer has ended."""
        return self.state.ended


class Meter(Progress):
    """A counter for the bytes of several files together, and for their speed."""

    def __init__(self, total: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at zero; ``total`` covers all files, 0 uses the total of each stage."""
        self.total, self.clock = total, clock
        self.before, self.done, self.stage, self.what = 0, 0, 0, ""
        self.seen: deque[tuple[float, int]] = deque()
        self.lock = threading.Lock()

    def start(self, total: int, what: str) -> None:
        """Start a file, or restart it."""
        with self.lock:
            self.done, self.stage, self.what = 0, total, what
            self.seen.clear()

    def step(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more bytes; the first call may include an earlier attempt, so the speed ignores it."""
        with self.lock:
            self.done += n
            self.seen.append((self.clock(), self.done))

    def next_file(self, size: int) -> None:
        """Add a complete file of ``size`` bytes; later bytes are added to it."""
        with self.lock:
            self.before += size
            self.done, self.stage = 0, 0
            self.seen.clear()

    def reading(self, state: TransferState, error: str = "") -> TransferProgress:
        """Return the current progress."""
        with self.lock:
            now, received = self.clock(), self.before + self.done
            total = self.total or self.before + self.stage
            speed = self._speed(now)
            running = state == TransferState.RUNNING
            return TransferProgress(
                state=state,
                what=self.what,
                received=received,
                total=total,
                bytes_per_second=speed if running else 0.0,
                seconds_left=max(total - received, 0) / speed if speed > 0 and running else None,
                error=error,
            )

    def _speed(self, now: float) -> float:
        while self.seen and now - self.seen[0][0] > _SPEED_SECONDS:
            self.seen.popleft()
        if not self.seen or now - self.seen[0][0] < _SHORTEST_SECONDS:
            return 0.0
        return (self.seen[-1][1] - self.seen[0][1]) / (now - self.seen[0][0])


class Transfer:
    """A download, import or verification in the background thread; `poll` returns its progress.

    Slicer's event loop holds Python's global lock: a timer that polls has to release it (by sleeping a few
    milliseconds), otherwise the transfer is very slow.

    Attributes:
        name: Name of the model; "" until an import has recognised it.
        label: Description of the transfer for the user.
    """

    def __init__(self, name: str, label: str, work: Callable[[Transfer], bool], total: int = 0) -> None:
        """Create a waiting transfer for `TransferQueue.add`; ``work`` returns False if it was cancelled."""
        self.name, self.label = name, label
        self.cancel_token, self.meter = CancelToken(), Meter(total)
        self.meter.what = label
        self._work, self._error, self._state = work, "", TransferState.WAITING
        self._ended, self._lock = threading.Event(), threading.Lock()

    def poll(self) -> TransferProgress:
        """Return the progress without waiting."""
        return self.meter.reading(self._state, self._error)

    def cancel(self) -> None:
        """Stop at the next chunk; received data is kept, and a later download resumes there."""
        self.cancel_token.cancel()
        with self._lock:
            if self._state == TransferState.WAITING:
                self._end(TransferState.CANCELLED)

    def wait(self, seconds: float | None = None) -> TransferProgress:
        """Block until it has ended; for scripts."""
        self._ended.wait(seconds)
        return self.poll()

    def run(self) -> None:
        """Do the work in the calling thread; the outcome, including any exception, becomes the state."""
        with self._lock:
            if self._state != TransferState.WAITING:
                return
            self._state = TransferState.RUNNING
        state, error = TransferState.FAILED, ""
        try:
            state = TransferState.FINISHED if self._work(self) else TransferState.CANCELLED
        except Exception as failure:
            known = as_user_error(failure)
            if known is not None:
                error = worded(known)
            else:
                _log.exception("%s failed", self.label)
                error = _("{label} failed: internal error {fault!r}. Please report it.").format(
                    label=self.label, fault=failure
                )
        with self._lock:
            self._error = error
            self._end(state)

    def _end(self, state: TransferState) -> None:
        self._state = state
        self._ended.set()


class TransferQueue:
    """A queue of transfers, done one by one in a thread that lives while there are any."""

    def __init__(self) -> None:
        """Create an empty queue; the thread is started with the first transfer."""
        self._waiting: deque[Transfer] = deque()
        self._lock = threading.Lock()
        self._running: Transfer | None = None
        self._thread: threading.Thread | None = None
        self._busy = False

    @property
    def transfers(self) -> list[Transfer]:
        """The running transfer and those that wait, in this order."""
        with self._lock:
            every = [self._running, *self._waiting]
        return [transfer for transfer in every if transfer is not None and not transfer.poll().ended]

    def add(self, transfer: Transfer) -> Transfer:
        """Append a transfer."""
        with self._lock:
            self._waiting.append(transfer)
            if not self._busy:
                self._busy = True
                # A daemon, so that exiting does not wait for an unresponsive server; received data is kept anyway.
                self._thread = threading.Thread(target=self._go_on, name="ProxyPromptTransfers", daemon=True)
                self._thread.start()
        return transfer

    def close(self, timeout: float = 5.0) -> bool:
        """Cancel all transfers and wait for the thread; return whether it has ended."""
        with self._lock:
            thread, every = self._thread, [self._running, *self._waiting]
        for transfer in every:
            if transfer is not None:
                transfer.cancel()
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _go_on(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running, self._busy = None, False
                    return
                self._running = self._waiting.popleft()
            self._running.run()
