"""One transfer attempt: resumes after the bytes already received, or reports why it cannot.

The partial file contains the first bytes of the expected file. A note next to it identifies the server's version (ETag
or date), so that a file that changed meanwhile is restarted and not patched together. The result is verified by the
hash of the complete file, not here.
"""

from __future__ import annotations

import errno
import json
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.weights.connection import BrokenError, Connections, RefusedError

PIECE = 1 << 18
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_HINTS = {
    401: "authentication is required",
    403: "access is denied; a firewall may block it",
    404: "the file no longer exists there; update ProxyPromptSegment",
    407: "the proxy requires a password; set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
    410: "the file no longer exists there; update ProxyPromptSegment",
    451: "it is blocked for legal reasons",
}


@dataclass(frozen=True)
class Part:
    """A partial file and its note, which identifies the server's version.

    Attributes:
        path: Path of the partial file.
        size: Size of the complete file in bytes.
    """

    path: Path
    size: int

    @property
    def received(self) -> int:
        """Number of bytes received so far."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def discard(self) -> None:
        """Remove the file and its note."""
        for path in (self.path, self._note):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def remember(self, url: str, validator: str) -> None:
        """Record the ETag or date that identifies the server's version."""
        self._note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def validator(self, url: str) -> str:
        """Return the ETag or date recorded for this address; "" if there is none."""
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            return str(noted["validator"]) if noted["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def receive(url: str, part: Part, at: Callable[[int], None], cancel: CancelToken, connections: Connections) -> None:
    """Receive from the end of the part until the file is complete, broken off or cancelled; keep every byte.

    Args:
        url: https, http or file address.
        part: The partial file, which is extended.
        at: Receives the number of bytes so far, also when it falls back to 0.
        cancel: Checked after each block, so at the latest after the timeout.
        connections: Opens the address.

    Raises:
        BrokenError: If it stopped early and can be resumed.
        RefusedError: If this source is unusable.
        OutputError: If the part cannot be written.
    """
    if part.received > part.size:
        part.discard()
    if part.received == part.size:
        return
    if urlsplit(url).scheme == "file":
        _copy(url, part, at, cancel)
        return
    have = part.received
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if part.validator(url):
            headers["If-Range"] = part.validator(url)
    try:
        with connections.open(url, headers) as reply:
            start = _begin(reply, part, have)
            _write_note(part, url, reply, start)
            _append(part, start, lambda: reply.read1(PIECE), at, cancel)
    except HTTPError as error:
        error.close()
        raise _refusal(error, part) from None
    except URLError as error:
        raise _unreachable(error) from None
    except (OSError, HTTPException) as error:
        raise BrokenError(f"the connection broke off ({_words(error)})") from None
    except ValueError as error:  # an invalid port or header
        raise RefusedError(f"its answer is invalid ({error})") from None
    if not cancel.cancelled and part.received < part.size:
        raise BrokenError(f"the connection ended after {part.received} of {part.size} bytes")


def _begin(reply: Any, part: Part, have: int) -> int:
    """Check the head of a reply and return the byte at which it begins.

    Raises:
        BrokenError: If it answers with another range; the transfer then restarts from zero.
        RefusedError: If it is not the registered file.
    """
    if reply.headers.get_content_type() == "text/html":
        raise RefusedError(
            "it sent a web page instead of the file; log in to the network or proxy with a browser, and try again"
        )
    if reply.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise RefusedError("it sent the file in another encoding")
    if reply.status == 206:
        match = _RANGE.fullmatch(reply.headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != have:
            part.discard()
            raise BrokenError("it sent another part of the file than requested")
        start, total = have, match[3]
    elif reply.status == 200:
        start, total = 0, reply.headers.get("Content-Length", "*")
    else:
        raise RefusedError(f"it answered {reply.status} {reply.reason}")
    if total.isdigit() and int(total) != part.size:
        raise RefusedError(f"its file has {total} bytes instead of {part.size}: it is another file")
    return start


def _write_note(part: Part, url: str, reply: Any, start: int) -> None:
    """Record the version before its first byte is written; a part of an older version is emptied first."""
    tag = reply.headers.get("ETag", "")
    validator = (
        tag if tag.startswith('"') else reply.headers.get("Last-Modified", "")
    )  # a weak tag does not guarantee equal bytes
    try:
        if start == 0:
            part.path.open("wb").close()
        part.remember(url, validator)
    except OSError as error:
        raise cannot_write(part.path, error) from None


def _append(part: Part, start: int, read: Callable[[], bytes], at: Callable[[int], None], cancel: CancelToken) -> None:
    """Write blocks from ``start`` on until there are none.

    Raises:
        RefusedError: If there are more bytes than expected.
        OutputError: If they cannot be written.
    """
    at(start)
    try:
        file = part.path.open("r+b" if start else "wb", buffering=0)
    except OSError as error:
        raise cannot_write(part.path, error) from None
    with file:
        file.seek(start)
        while not cancel.cancelled:
            piece = read()
            if not piece:
                return
            if start + len(piece) > part.size:
                part.discard()
                raise RefusedError(f"it sent more than the expected {part.size} bytes: it is another file")
            _write(file, piece, part.path)
            start += len(piece)
            at(start)


def _write(file: Any, piece: bytes, path: Path) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise cannot_write(path, error) from None


def _copy(url: str, part: Part, at: Callable[[int], None], cancel: CancelToken) -> None:
    """Copy from a file URL."""
    parts = urlsplit(url)
    source = Path(url2pathname(f"//{parts.netloc}{parts.path}" if parts.netloc else parts.path))
    if not source.is_file():
        raise RefusedError(f"there is no file {source}")
    copy_file(source, part, at, cancel)


def copy_file(source: Path, part: Part, at: Callable[[int], None], cancel: CancelToken) -> None:
    """Copy a file to the part, always from its beginning.

    Raises:
        RefusedError: If it cannot be read or has another size.
        OutputError: If the part cannot be written.
    """
    try:
        with source.open("rb") as file:
            size = source.stat().st_size
            if size != part.size:
                raise RefusedError(f"{source} has {size} bytes instead of {part.size}: it is another file")
            part.discard()
            _append(part, 0, lambda: file.read(PIECE), at, cancel)
    except OSError as error:
        raise RefusedError(f"{source} cannot be read ({_words(error)})") from None
    if not cancel.cancelled and part.received < part.size:
        raise RefusedError(f"{source} was truncated while it was read")


def _refusal(error: HTTPError, part: Part) -> Exception:
    """Return the exception for an answer other than success."""
    if error.code == 416:  # the part is not a beginning of the server's file
        part.discard()
        return BrokenError("its file ends before the bytes that are still missing")
    said = f"it answered {error.code} {error.reason}"
    if error.code in _PASSING:
        return BrokenError(said)
    if error.code in (301, 302, 303, 307, 308):
        return RefusedError(f"too many redirects ({said})")
    return RefusedError(f"{said}: {_HINTS[error.code]}" if error.code in _HINTS else said)


def _unreachable(error: URLError) -> Exception:
    """Return the exception for a failed connection."""
    reason = error.reason
    if isinstance(reason, ssl.SSLCertVerificationError):
        return RefusedError(
            f"its certificate cannot be verified ({reason.verify_message}); if your network inspects encrypted "
            "connections, set SSL_CERT_FILE to the file of its certificates (ask your IT department)"
        )
    if isinstance(reason, OSError):
        return BrokenError(f"it cannot be reached ({_words(reason)})")
    return RefusedError(f"it cannot be reached ({reason})")


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the exception for bytes that could not be written."""
    if error.errno in _FULL:
        return OutputError(
            f"the disk of {path.parent} is full; no partial file was left. Free up space, or set PROXYPROMPT_CACHE to "
            "a folder on another disk."
        )
    return OutputError(
        f"{path.parent} cannot be written ({_words(error)}); change its permissions, or set PROXYPROMPT_CACHE to a "
        "folder of your own."
    )


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
