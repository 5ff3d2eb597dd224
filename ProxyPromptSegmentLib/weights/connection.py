"""Connections: https only unless the user allows http, with the machine's proxies and certificates."""

from __future__ import annotations

import os
import ssl
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.errors import CheckpointError

# In addition to OpenSSL's SSL_CERT_FILE and SSL_CERT_DIR; hospitals set these for other programs.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class RefusedError(Exception):
    """A source that does not have the right file, while another may. The text is the reason, for a list of reasons."""


class UnencryptedError(RefusedError):
    """An address without encryption, which is used only if the user allows it."""


class BrokenError(Exception):
    """A transfer that stopped early and can be resumed."""


def check_scheme(url: str, allow_http: bool) -> None:
    """Reject unencrypted connections.

    Raises:
        RefusedError: If the address is neither https nor, if the user allows it, http.
    """
    scheme = urlsplit(url).scheme.lower()
    if scheme == "http" and not allow_http:
        raise UnencryptedError(f"{url} is not encrypted; only https is used")
    if scheme not in ("https", "http"):
        raise RefusedError(f"{url} is neither https nor http")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A redirect handler that follows only to addresses that are allowed themselves."""

    max_redirections = 5

    def __init__(self, allow_http: bool) -> None:
        self.allow_http = allow_http

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for the redirected address.

        Raises:
            RefusedError: If it redirects from https to http.
        """
        check_scheme(newurl, self.allow_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def tls_context() -> ssl.SSLContext:
    """Return a TLS context with the system's certificates and those named by ``SSL_CERT_FILE`` and similar variables.

    Raises:
        CheckpointError: If a variable names a file that is not a list of certificates.
    """
    context = ssl.create_default_context()
    for variable in _BUNDLES:
        named = os.environ.get(variable)
        if named:
            try:
                folder = Path(named).is_dir()
                context.load_verify_locations(None if folder else named, named if folder else None)
            except OSError as error:  # SSLError is one
                raise CheckpointError(
                    f"{variable} names {named}, which cannot be read as certificates ({error}); correct or unset it."
                ) from None
    paths = ssl.get_default_verify_paths()
    if not context.cert_store_stats()["x509_ca"] and not (paths.cafile or paths.capath):
        try:  # a Python whose OpenSSL does not find the system's certificates, as on some Macs
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


class Connections:
    """An opener of addresses, created once per download because loading certificates is slow.

    Attributes:
        allow_http: Whether http may be used.
        timeout: Seconds of silence after which a server is given up.
    """

    def __init__(self, allow_http: bool = False, timeout: float = 20.0) -> None:
        """Configure proxies from ``HTTPS_PROXY``, ``NO_PROXY`` and the system's settings.

        Raises:
            CheckpointError: As `tls_context`.
        """
        self.allow_http, self.timeout = allow_http, timeout
        self._opener = urllib.request.OpenerDirector()
        for handler in (  # not build_opener's list: it also opens files, ftp and data addresses
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=tls_context()),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(allow_http),
        ):
            self._opener.add_handler(handler)

    def open(self, url: str, headers: dict[str, str]) -> Any:
        """Send a GET request; use the reply as a context manager.

        Raises:
            RefusedError: If the address is not allowed.
            OSError: As in `urllib`; `urllib.error.HTTPError` for any answer other than success.
        """
        check_scheme(url, self.allow_http)
        request = urllib.request.Request(url, headers={"User-Agent": f"ProxyPromptSegment/{__version__}", **headers})
        return self._opener.open(request, timeout=self.timeout)
