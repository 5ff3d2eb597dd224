"""One piece of a transfer: goes on behind the bytes that are already there, or says why it cannot.

The partial file holds the first bytes of what was promised; beside it lies what identifies the server's version of the
file (ETag or date), so that a file that changed meanwhile is begun again and not glued together. Whether the result is
right is decided by the hash of the whole, not here.
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
    401: "a password is wanted; fetch the file yourself and import it",
    403: "access is refused; a firewall may block it",
    404: "the file is not there any more; update ProxyPromptSegment",
    407: "the proxy wants a password; set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
    410: "the file is not there any more; update ProxyPromptSegment",
    451: "it is blocked here",
}


@dataclass(frozen=True)
class Part:
    """A partial file and the note beside it.

    Attributes:
        path: Where the bytes lie.
        size: How many there will be.
    """

    path: Path
    size: int

    @property
    def received(self) -> int:
        """How many bytes are there."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def discard(self) -> None:
        """Removes it."""
        for path in (self.path, self._note):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def remember(self, url: str, validator: str) -> None:
        """Notes by which ETag or date the server's version can be known again."""
        self._note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def validator(self, url: str) -> str:
        """What was noted for this address; "" if nothing."""
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            return str(noted["validator"]) if noted["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def receive(url: str, part: Part, at: Callable[[int], None], cancel: CancelToken, connections: Connections) -> None:
    """Fetches from where the part ends until the end, a break or a cancel; every received byte is kept.

    Args:
        url: https, http or file address.
        part: What is there already; more of it afterwards.
        at: Is told the number of bytes that are there, also when it falls back to 0.
        cancel: Looked at after each piece, so at the latest after the time-out.
        connections: Opens the address.

    Raises:
        BrokenError: If it stopped early and may go on.
        RefusedError: If this source is of no use.
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
    except ValueError as error:  # a port that is no number, a header that is no header
        raise RefusedError(f"its answer cannot be understood ({error})") from None
    if not cancel.cancelled and part.received < part.size:
        raise BrokenError(f"the connection ended after {part.received} of {part.size} bytes")


def _begin(reply: Any, part: Part, have: int) -> int:
    """Reads the head of a reply; returns at which byte it begins.

    Raises:
        BrokenError: If it answers another range: begun again from zero.
        RefusedError: If it is not the file that was promised.
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
            raise BrokenError("it sent another part of the file than was asked for")
        start, total = have, match[3]
    elif reply.status == 200:
        start, total = 0, reply.headers.get("Content-Length", "*")
    else:
        raise RefusedError(f"it answered {reply.status} {reply.reason}")
    if total.isdigit() and int(total) != part.size:
        raise RefusedError(f"its file has {total} bytes, {part.size} were promised: it is another file")
    return start


def _write_note(part: Part, url: str, reply: Any, start: int) -> None:
    """Notes the version before its first byte is written; a part of an older version is emptied before."""
    tag = reply.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else reply.headers.get("Last-Modified", "")  # a weak tag promises no bytes
    try:
        if start == 0:
            part.path.open("wb").close()
        part.remember(url, validator)
    except OSError as error:
        raise cannot_write(part.path, error) from None


def _append(part: Part, start: int, read: Callable[[], bytes], at: Callable[[int], None], cancel: CancelToken) -> None:
    """Writes pieces behind ``start`` until there are none.

    Raises:
        RefusedError: If there are more bytes than promised.
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
                raise RefusedError(f"it sent more than the {part.size} bytes that were promised: it is another file")
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
    """The same from a file of this machine."""
    parts = urlsplit(url)
    source = Path(url2pathname(f"//{parts.netloc}{parts.path}" if parts.netloc else parts.path))
    if not source.is_file():
        raise RefusedError(f"there is no file {source}")
    copy_file(source, part, at, cancel)


def copy_file(source: Path, part: Part, at: Callable[[int], None], cancel: CancelToken) -> None:
    """Copies a file to the part, always from its beginning.

    Raises:
        RefusedError: If it cannot be read or has another size.
        OutputError: If the part cannot be written.
    """
    try:
        with source.open("rb") as file:
            size = source.stat().st_size
            if size != part.size:
                raise RefusedError(f"{source} has {size} bytes, {part.size} were promised: it is another file")
            part.discard()
            _append(part, 0, lambda: file.read(PIECE), at, cancel)
    except OSError as error:
        raise RefusedError(f"{source} cannot be read ({_words(error)})") from None
    if not cancel.cancelled and part.received < part.size:
        raise RefusedError(f"{source} became shorter while it was read")


def _refusal(error: HTTPError, part: Part) -> Exception:
    """What an answer other than success means."""
    if error.code == 416:  # the part is no beginning of what the server has
        part.discard()
        return BrokenError("its file ends before the bytes that are still missing")
    said = f"it answered {error.code} {error.reason}"
    if error.code in _PASSING:
        return BrokenError(said)
    if error.code in (301, 302, 303, 307, 308):
        return RefusedError(f"it sends from one address to the next without end ({said})")
    return RefusedError(f"{said}: {_HINTS[error.code]}" if error.code in _HINTS else said)


def _unreachable(error: URLError) -> Exception:
    """Why no connection came about."""
    reason = error.reason
    if isinstance(reason, ssl.SSLCertVerificationError):
        return RefusedError(
            f"its certificate cannot be checked ({reason.verify_message}); if your network opens encrypted "
            "connections, set SSL_CERT_FILE to the file of its certificates (ask your IT department)"
        )
    if isinstance(reason, OSError):
        return BrokenError(f"it cannot be reached ({_words(reason)})")
    return RefusedError(f"it cannot be reached ({reason})")


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The sentence for bytes that could not be written."""
    if error.errno in _FULL:
        return OutputError(
            f"the disk of {path.parent} is full; nothing was left there. Free some space, or set PROXYPROMPT_CACHE to "
            "a folder on another disk."
        )
    return OutputError(
        f"{path.parent} cannot be written ({_words(error)}); change its permissions, or set PROXYPROMPT_CACHE to a "
        "folder of your own."
    )


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
