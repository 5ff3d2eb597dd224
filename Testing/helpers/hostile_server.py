"""A web server of this machine that behaves as badly as it is told to, and writes down what it was asked for."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 14


@dataclass
class Conduct:
    """How one address is served.

    Attributes:
        content: The file.
        ranges: Whether range requests are honoured.
        etag: What identifies this version; "" sends none.
        dated: Whether a date of change is sent.
        cut: Given the number of this request and the bytes of the answer, after how many it breaks off; None never.
        rough: Breaks off by a reset instead of a polite end.
        status: Answers this code instead of the file.
        times: How often it does so before it serves well; None is always.
        location: Where it redirects to.
        length: Claimed length of the whole; "" claims none.
        surplus: Bytes sent behind the end.
        pause: Seconds between two pieces.
        silence: Given the number of this request, seconds before anything is said.
        kind: Content type.
        shift: By how much the start of a partial answer is wrong.
        encoding: Content encoding that it claims.
    """

    content: bytes = b""
    ranges: bool = True
    etag: str = '"1"'
    dated: bool = False
    cut: Callable[[int, int], int | None] = lambda number, size: None
    rough: bool = False
    status: int = 0
    times: int | None = None
    location: str = ""
    length: int | str | None = None
    surplus: bytes = b""
    pause: float = 0.0
    silence: Callable[[int], float] = lambda number: 0.0
    kind: str = "application/octet-stream"
    shift: int = 0
    encoding: str = ""


@dataclass
class Asked:
    """One request, and how it was answered."""

    path: str
    start: int | None
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


@dataclass
class HostileServer:
    """Serves on a free port of this machine until the block ends."""

    pages: dict[str, Conduct] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    certificate: tuple[str, str] | None = None

    def __enter__(self) -> HostileServer:
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hostile": self}))
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that leaves is what is tested
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def serve(self, path: str, content: bytes = b"", **conduct: object) -> str:
        """Serves a file at a path; returns its address."""
        self.pages[path] = Conduct(content, **conduct)
        return self.url(path)

    def url(self, path: str) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.server.server_address[1]}{path}"

    @property
    def sent(self) -> int:
        """All bytes of files that went out."""
        return sum(asked.sent for asked in self.asked)


class _Handler(BaseHTTPRequestHandler):
    hostile: HostileServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path[self.path.find("/", 8) :] if self.path.startswith("http") else self.path  # asked as a proxy
        conduct, wanted = self.hostile.pages.get(path), self.headers.get("Range", "")
        start = int(wanted[6:-1]) if wanted.startswith("bytes=") else None
        asked = Asked(self.path, start, dict(self.headers.items()))
        with self.hostile.lock:
            number = sum(other.path == self.path for other in self.hostile.asked)
            self.hostile.asked.append(asked)
        if conduct is None:
            return self.answer(asked, 404)
        if conduct.location:
            return self.answer(asked, 302, {"Location": conduct.location})
        if conduct.status and (conduct.times is None or number < conduct.times):
            return self.answer(asked, conduct.status)
        self.send(asked, conduct, number)

    def answer(self, asked: Asked, status: int, headers: dict[str, str] | None = None) -> None:
        asked.status = status
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, asked: Asked, conduct: Conduct, number: int) -> None:
        """Sends the file, or what of it the client does not have."""
        content, start = conduct.content, asked.start
        unchanged = asked.headers.get("If-Range", conduct.etag) in (conduct.etag, self.date(conduct))
        if start is None or not conduct.ranges or not unchanged:
            start, status = 0, 200
        elif start >= len(content):
            return self.answer(asked, 416)
        else:
            status = 206
        time.sleep(conduct.silence(number))
        asked.status, total = status, len(content) if conduct.length is None else conduct.length
        self.send_response(status)
        if status == 206:
            first = start + conduct.shift
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{total or '*'}")
        if total != "":
            self.send_header("Content-Length", str(int(total) - (start if status == 206 else 0)))
        self.send_header("Content-Type", conduct.kind)
        if conduct.encoding:
            self.send_header("Content-Encoding", conduct.encoding)
        if conduct.etag:
            self.send_header("ETag", conduct.etag)
        if conduct.dated:
            self.send_header("Last-Modified", self.date(conduct))
        self.end_headers()
        body = memoryview(content + conduct.surplus)[start:]
        end = conduct.cut(number, len(body))
        self.pour(asked, conduct, body[:end])
        if end is not None and conduct.rough:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if end is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def pour(self, asked: Asked, conduct: Conduct, body: memoryview) -> None:
        for place in range(0, len(body), PIECE):
            piece = body[place : place + PIECE]
            self.wfile.write(piece)
            asked.sent += len(piece)
            if conduct.pause:
                time.sleep(conduct.pause)

    def date(self, conduct: Conduct) -> str:
        return formatdate(1_700_000_000 + len(conduct.etag), usegmt=True)
