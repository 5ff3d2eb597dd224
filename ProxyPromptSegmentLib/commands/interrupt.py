"""SIGINT, SIGTERM and SIGHUP: the first requests a stop between two slices, the second aborts immediately."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ProxyPromptSegmentLib.progress import CancelToken


@contextmanager
def stop_on_signals(say: Callable[[str], None], what: str = "the slice") -> Iterator[CancelToken]:
    """Yield a token that SIGINT, SIGTERM and SIGHUP cancel; restore the former signal handlers afterwards.

    Args:
        say: Called once with a message for the user, at the first signal.
        what: The step that is finished before the stop, for the message.

    Raises:
        KeyboardInterrupt: In the block, at the second signal.
    """
    cancel = CancelToken()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if cancel.cancelled:
            raise KeyboardInterrupt
        cancel.cancel()
        with suppress(RuntimeError):  # it came in the middle of a write to the same stream, which waits for its reader
            say(f"stopping after {what} being computed; press Ctrl-C again to stop immediately.")

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield cancel
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        numbers.append(signal.SIGHUP)
    former = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield cancel
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
