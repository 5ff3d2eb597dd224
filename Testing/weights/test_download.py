"""Downloads from a hostile server: in the end the cache holds the right file or none, and a sentence what to do."""

from __future__ import annotations

import hashlib
import json
import random

import pytest

from download_cases import AT_ONCE, CONTENT, RIGHT, an_entry, files
from hostile_server import PIECE, HostileServer
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights import transfer
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.download import Manner


class Steps(Progress):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.totals, self.done = [], 0

    def start(self, total: int, what: str) -> None:
        self.totals.append(total)
        self.done = 0

    def step(self, n: int = 1, note: str = "") -> None:
        self.done += n


# --- what still ends well ------------------------------------------------------------------------------------------

MANAGEABLE = {
    "a good server": {},
    "a slow one": {"pause": 0.005},
    "one that claims no length": {"length": ""},
    "one that breaks off once": {"cut": lambda number, size: 100_001 if number == 0 else None},
    "one that resets the connection": {"cut": lambda number, size: 100_001 if number == 0 else None, "rough": True},
    "one that breaks off and claims no length": {
        "cut": lambda number, size: 100_001 if number == 0 else None,
        "length": "",
    },
    "one without ETag": {"cut": lambda number, size: 5 if number == 0 else None, "etag": ""},
    "one with a weak ETag": {"cut": lambda number, size: 5 if number == 0 else None, "etag": 'W/"1"', "dated": True},
    "one that ignores ranges and breaks off": {
        "cut": lambda number, size: 99 if number == 0 else None,
        "ranges": False,
    },
    "one that answers 500 twice": {"status": 500, "times": 2},
    "one that answers 503 once": {"status": 503, "times": 1},
    "one that sends bytes behind the length": {"surplus": b"x" * 100},
    "one that sends another part once": {"cut": lambda number, size: 99 if number < 2 else None, "shift": 7},
}


@pytest.mark.parametrize("conduct", MANAGEABLE.values(), ids=MANAGEABLE)
def test_the_right_file_comes_from(server, cache, conduct) -> None:
    progress = Steps()
    entry = an_entry(server.serve("/w", CONTENT, **conduct))
    assert cache.download(entry, progress, manner=AT_ONCE) == cache.path_of(entry)
    assert files(cache) == RIGHT
    assert set(progress.totals) == {len(CONTENT)} and progress.done == len(CONTENT)


# --- what cannot end well ------------------------------------------------------------------------------------------

WRONG_BYTE = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
HOPELESS = {
    "a wrong byte": ({"content": WRONG_BYTE}, "it has SHA-256 .* instead of .*: it is damaged or another file"),
    "a file that is too long": ({"content": CONTENT + b"x"}, "its file has 300001 bytes instead of 300000"),
    "a file that is too short": ({"content": CONTENT[:-1]}, "its file has 299999 bytes instead of 300000"),
    "a length that is too long": ({"length": 300_500}, "300500 bytes instead of 300000"),
    "a length that is too short": ({"length": 100}, "100 bytes instead of 300000"),
    "more bytes without a length": ({"length": "", "surplus": b"more"}, "sent more than the expected 300000 bytes"),
    "fewer bytes without a length": (
        {"content": CONTENT[:100], "length": ""},
        "its file ends before the bytes that are still missing",
    ),
    "404": ({"status": 404}, "it answered 404 Not Found: the file no longer exists there; update"),
    "403": ({"status": 403}, "it answered 403 Forbidden: access is denied; a firewall"),
    "407": ({"status": 407}, "407 .*: the proxy requires a password; set HTTPS_PROXY"),
    "500": ({"status": 500}, "it answered 500 Internal Server Error"),
    "418": ({"status": 418}, "it answered 418"),
    "204": ({"status": 204}, "it answered 204"),
    "a circle of redirects": ({"location": "/w"}, "too many redirects"),
    "a redirect into a file": ({"location": "file:///etc/passwd"}, "is neither https nor http|302"),
    "a redirect to ftp": ({"location": "ftp://127.0.0.1/w"}, "is neither https nor http"),
    "a web page of a login": ({"kind": "text/html; charset=utf-8"}, "web page instead of the file; log in"),
    "another encoding": ({"encoding": "gzip"}, "in another encoding"),
    "an end after the head": ({"cut": lambda number, size: 0}, "the connection ended after 0 of 300000 bytes"),
    "always another part": ({"cut": lambda number, size: 99 if number % 2 == 0 else None, "shift": 7}, "another part"),
}


@pytest.mark.parametrize(("conduct", "sentence"), HOPELESS.values(), ids=HOPELESS)
def test_nothing_gets_the_name_from(server, cache, conduct, sentence) -> None:
    conduct = {"content": CONTENT, **conduct}
    entry = an_entry(server.serve("/w", **conduct))
    with pytest.raises(CheckpointError, match=sentence) as caught:
        cache.download(entry, manner=AT_ONCE)
    assert caught.value.remedy.kind in (RemedyKind.RETRY_DOWNLOAD, RemedyKind.RESUME_DOWNLOAD)
    assert (caught.value.remedy.model, caught.value.remedy.file) == (entry.name, entry.urls[0])
    assert not cache.is_installed(entry)
    assert not any(name.startswith("weights/") for name in files(cache))
    assert len(server.asked) <= 8


def test_a_server_that_is_not_there_is_a_sentence(server, cache) -> None:
    url = server.url("/w")
    server.__exit__()
    with pytest.raises(CheckpointError, match=r"127.0.0.1: it cannot be reached \(Connection refused"):
        cache.download(an_entry(url), manner=AT_ONCE)
    server.__enter__()


def test_a_server_that_says_nothing_is_given_up_after_the_time_out(server, cache) -> None:
    first = {"cut": lambda number, size: 100_000 if number == 0 else None}
    url = server.serve("/w", CONTENT, silence=lambda number: float(number), **first)
    with pytest.raises(CheckpointError, match="broke off .*timed out.* 100000 of 300000 bytes are kept") as caught:
        cache.download(an_entry(url), manner=Manner(allow_http=True, timeout=0.1, pauses=()))
    assert caught.value.remedy.kind is RemedyKind.RESUME_DOWNLOAD


# --- several sources -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("conduct", "sentence"), HOPELESS.values(), ids=HOPELESS)
def test_the_next_source_is_taken_after(server, cache, conduct, sentence) -> None:
    bad = server.serve("/bad", **{"content": CONTENT, **conduct})
    entry = an_entry(bad, server.serve("/good", CONTENT))
    assert cache.download(entry, manner=AT_ONCE)
    assert files(cache) == RIGHT


def test_what_one_source_sent_is_gone_on_with_from_the_next(server, cache) -> None:
    first = server.serve("/first", CONTENT, cut=lambda number, size: 100_000 if number == 0 else 0)
    cache.download(an_entry(first, server.serve("/second", CONTENT, etag='"of the second"')), manner=AT_ONCE)
    assert server.asked[-1].start == 100_000 and "If-Range" not in server.asked[-1].headers
    assert files(cache) == RIGHT and server.sent == len(CONTENT)


def test_a_wrong_beginning_of_another_source_does_not_spoil_the_right_one(server, cache) -> None:
    first = server.serve("/first", bytes(len(CONTENT)), cut=lambda number, size: 100_000 if number == 0 else 0)
    cache.download(an_entry(first, server.serve("/second", CONTENT)), manner=AT_ONCE)
    assert files(cache) == RIGHT


def test_every_source_is_named_with_its_reason_when_all_fail(server, cache) -> None:
    urls = [server.serve("/a", status=404), server.serve("/b", WRONG_BYTE), "file:///nowhere/w.pth"]
    with pytest.raises(CheckpointError, match="404.*; 127.0.0.1: it has SHA-256.*; file.*there is no file"):
        cache.download(an_entry(*urls), manner=AT_ONCE)
    assert files(cache) == {}


# --- interruptions -------------------------------------------------------------------------------------------------


class StopAfter(Progress):
    """A user who stops after so many new bytes; what was there before is told in the first step and not counted."""

    def __init__(self, cancel: CancelToken, count: int) -> None:
        self.cancel, self.count, self.fresh = cancel, count, False

    def start(self, total: int, what: str) -> None:
        self.fresh = False

    def step(self, n: int = 1, note: str = "") -> None:
        self.count -= n if self.fresh else 0
        self.fresh = True
        if self.count <= 0:
            self.cancel.cancel()


def interrupted_downloads(cache: ModelCache, server: HostileServer, content: bytes, times: int, seed: int) -> None:
    """Downloads over so many random interruptions by the server, some of which the user forestalls."""
    rng = random.Random(seed)
    mean = len(content) * 9 // (10 * times)

    def cut(number: int, size: int) -> int | None:
        return rng.randrange(2 * mean) if number < times else None

    entry = an_entry(server.serve("/w", content, cut=cut), content=content)
    path, stops = None, 0
    while path is None:
        cancel, kept, before = CancelToken(), cache.kept(entry), len(server.asked)
        patience = rng.randrange(8 * mean) if len(server.asked) < times else 2 * len(content)
        path = cache.download(entry, StopAfter(cancel, patience), cancel, AT_ONCE)
        stops += path is None
        assert (server.asked[before].start or 0) == kept, "it goes on exactly where the user stopped"
    assert stops > times // 10
    assert path.read_bytes() == content
    assert len(server.asked) > times
    starts = [asked.start or 0 for asked in server.asked]
    assert starts == sorted(starts), "it never asks for what it has"


def test_forty_random_interruptions_end_with_the_right_file_and_nothing_asked_for_twice(server, cache) -> None:
    content = random.Random(1).randbytes(4_000_000)
    interrupted_downloads(cache, server, content, 40, seed=2)


def test_cuts_of_the_server_alone_cost_no_byte_twice(server, cache) -> None:
    rng = random.Random(3)
    url = server.serve("/w", CONTENT, cut=lambda number, size: rng.randrange(20_000) if number < 25 else None)
    cache.download(an_entry(url), manner=AT_ONCE)
    assert files(cache) == RIGHT
    assert server.sent == len(CONTENT) and len(server.asked) > 20
    assert all(asked.headers["If-Range"] == '"1"' for asked in server.asked if asked.start)


def test_a_weak_etag_promises_no_bytes_so_the_date_is_asked_for(server, cache) -> None:
    url = server.serve("/w", CONTENT, cut=lambda number, size: 9 if number == 0 else None, etag='W/"1"', dated=True)
    cache.download(an_entry(url), manner=AT_ONCE)
    assert server.asked[1].start == 9 and server.asked[1].headers["If-Range"].endswith("GMT")


def test_a_file_that_changed_meanwhile_is_begun_again_and_not_glued(server, cache) -> None:
    url = server.serve("/w", bytes(len(CONTENT)), cut=lambda number, size: 100_000 if number == 0 else 0, etag='"old"')
    with pytest.raises(CheckpointError):
        cache.download(an_entry(url), manner=Manner(allow_http=True, pauses=()))
    server.serve("/w", CONTENT, etag='"new"')
    cache.download(an_entry(url), manner=AT_ONCE)
    assert server.asked[-1].headers["If-Range"] == '"old"' and server.asked[-1].status == 200
    assert files(cache) == RIGHT


def test_cancelling_keeps_what_was_received_and_the_next_download_goes_on(server, cache) -> None:
    cancel = CancelToken()

    class StopAt(Progress):
        done = 0

        def step(self, n: int = 1, note: str = "") -> None:
            self.done += n
            if self.done > 100_000:
                cancel.cancel()

    entry = an_entry(server.serve("/w", CONTENT, pause=0.001))
    assert cache.download(entry, StopAt(), cancel, AT_ONCE) is None
    kept = cache.kept(entry)
    assert 100_000 < kept < len(CONTENT)
    assert not cache.is_installed(entry)
    assert cache.download(entry, manner=AT_ONCE)
    assert server.asked[-1].start == kept
    assert files(cache) == RIGHT


def test_a_part_that_is_damaged_on_the_disk_is_found_by_the_hash(server, cache) -> None:
    entry = an_entry(server.serve("/w", CONTENT))
    cancel = CancelToken()
    cancel.cancel()
    cache.download(entry, None, cancel, AT_ONCE)
    part = cache._part(entry, len(CONTENT)).path
    part.parent.mkdir(parents=True, exist_ok=True)
    for damaged in (bytes(1000), bytes(len(CONTENT)), bytes(len(CONTENT) + 5)):
        part.write_bytes(damaged)
        part.with_name(f"{part.name}.json").write_text(json.dumps([1, 2]))
        assert cache.download(entry, manner=AT_ONCE)
        assert files(cache) == RIGHT
        cache.remove(entry)


# --- what is checked and what is not fetched -----------------------------------------------------------------------


def test_what_is_here_and_right_is_not_fetched_again_and_what_is_damaged_is(server, cache) -> None:
    entry = an_entry(server.serve("/w", CONTENT))
    path = cache.download(entry, manner=AT_ONCE)
    assert cache.download(entry, manner=AT_ONCE) == path and len(server.asked) == 1
    path.write_bytes(WRONG_BYTE)
    assert "SHA-256" in cache.check(entry)
    assert cache.download(entry, manner=AT_ONCE) == path and len(server.asked) == 2
    assert files(cache) == RIGHT and cache.check(entry) is None


def test_the_beginning_of_the_md5_in_a_file_name_is_checked_too(server, cache) -> None:
    url = server.serve("/w", CONTENT)
    right = hashlib.md5(CONTENT).hexdigest()[:6]
    with pytest.raises(CheckpointError, match=f"MD5 begins with {right}, not with abcdef .* the registry is wrong"):
        cache.download(an_entry(url, md5_prefix="abcdef"), manner=AT_ONCE)
    assert files(cache) == {}
    assert cache.download(an_entry(url, md5_prefix=right), manner=AT_ONCE)


def test_a_file_address_is_copied_and_checked(cache, tmp_path) -> None:
    source = tmp_path / "a folder" / "w ü.pth"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    assert cache.download(an_entry(source.as_uri())).read_bytes() == CONTENT
    source.write_bytes(WRONG_BYTE)
    with pytest.raises(CheckpointError, match="SHA-256"):
        ModelCache(tmp_path / "other").download(an_entry(source.as_uri()))
    source.write_bytes(CONTENT + b"x")
    with pytest.raises(CheckpointError, match="300001 bytes instead of 300000"):
        ModelCache(tmp_path / "other").download(an_entry(source.as_uri()))


@pytest.mark.parametrize("lacking", [{"sha256": None}, {"bytes": None}, {"urls": ()}])
def test_what_nobody_vouches_for_is_not_downloaded(server, cache, lacking) -> None:
    entry = an_entry(server.serve("/w", CONTENT), **lacking)
    with pytest.raises(CheckpointError, match="lacks an address, a size or a trusted hash") as caught:
        cache.download(entry, manner=AT_ONCE)
    assert caught.value.remedy == Remedy(kind=RemedyKind.IMPORT_MODEL, model=entry.name, file=entry.file)
    assert server.asked == []


def test_pieces_are_smaller_than_the_file_of_these_tests() -> None:
    assert PIECE < transfer.PIECE < len(CONTENT)
