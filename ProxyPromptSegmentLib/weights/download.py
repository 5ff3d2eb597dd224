"""Download of one file from several sources: resumes broken transfers and falls back to the next source."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights.connection import BrokenError, Connections, RefusedError, UnencryptedError
from ProxyPromptSegmentLib.weights.transfer import Part, receive


@dataclass(frozen=True)
class Manner:
    """Options of a download.

    Attributes:
        allow_http: Whether unencrypted http may be used.
        timeout: Seconds of silence after which a server is given up.
        pauses: Seconds to wait after the first, second, ... attempt without progress; then the source is given up.
    """

    allow_http: bool = False
    timeout: float = 20.0
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)


def fetch(
    name: str,
    urls: Sequence[str],
    part: Part,
    wrong: Callable[[], str | None],
    at: Callable[[int], None],
    cancel: CancelToken,
    manner: Manner,
) -> bool:
    """Complete a partial file with the right bytes.

    Args:
        name: Name of the entry, for messages.
        urls: The sources, tried in this order.
        part: The partial file; it is resumed if possible.
        wrong: Verifies the complete file; returns what is wrong with it, or None.
        at: Receives the number of bytes so far.
        cancel: Stops the download; the part is kept.
        manner: Options.

    Returns:
        True if it is complete and right; False if it was cancelled.

    Raises:
        CheckpointError: If no source has the right file; with the reason for each.
        OutputError: If the part cannot be written.
    """
    said, unencrypted, connections = [], 0, Connections(manner.allow_http, manner.timeout)
    for url in urls:
        try:
            at_once = _complete(url, part, at, cancel, connections, manner.pauses)
            if part.received < part.size:
                return False
            reason = wrong()
            if reason and not at_once:  # its beginning may be from another source or older: retry from this one alone
                part.discard()
                _complete(url, part, at, cancel, connections, manner.pauses)
                if part.received < part.size:
                    return False
                reason = wrong()
            if not reason:
                return True
            part.discard()
            said.append(f"{_host(url)}: {reason}")
        except RefusedError as refusal:
            said.append(f"{_host(url)}: {refusal}")
            unencrypted += isinstance(refusal, UnencryptedError)
    kept = f" {part.received} of {part.size} bytes are kept." if part.received else ""
    kind = RemedyKind.RESUME_DOWNLOAD if part.received else RemedyKind.RETRY_DOWNLOAD
    raise CheckpointError(
        f"'{name}' could not be downloaded. {'; '.join(said)}.{kept}",
        Remedy(kind=RemedyKind.ALLOW_HTTP if unencrypted == len(urls) else kind, model=name, file=urls[0]),
    )


def _complete(
    url: str,
    part: Part,
    at: Callable[[int], None],
    cancel: CancelToken,
    connections: Connections,
    pauses: tuple[float, ...],
) -> bool:
    """Receive until the part is complete or the download is cancelled.

    Returns:
        Whether all of it came from this source without interruption.

    Raises:
        RefusedError: If the source is unusable, or several attempts in a row made no progress.
    """
    furthest, in_vain, at_once = part.received, 0, part.received == 0
    while not cancel.cancelled:
        try:
            receive(url, part, at, cancel, connections)
            break
        except BrokenError as broken:
            at_once = False
            if part.received > furthest:
                furthest, in_vain = part.received, 0
            else:
                in_vain += 1
            if in_vain > len(pauses):
                raise RefusedError(str(broken)) from None
            _wait(pauses[max(in_vain - 1, 0)] if pauses else 0.0, cancel)
    return at_once


def _wait(seconds: float, cancel: CancelToken) -> None:
    """Wait, but stop early if cancelled."""
    end = time.monotonic() + seconds
    while not cancel.cancelled and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
