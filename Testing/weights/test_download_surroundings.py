"""What surrounds a download: two processes, full and read-only disks, encryption, proxies, a killed program."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from urllib.request import Request

import pytest

from download_cases import AT_ONCE, CONTENT, RIGHT, an_entry, files
from hostile_server import HostileServer
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.user_folders import cache_folder
from ProxyPromptSegmentLib.weights import cache as cache_module
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.checking import recognise
from ProxyPromptSegmentLib.weights.connection import Connections, RefusedError, _Redirects
from ProxyPromptSegmentLib.weights.download import Manner

ROOT = Path(__file__).resolve().parents[2]

# A program that downloads CONTENT from the address in its first argument into the cache in its second.
PROGRAM = """
    import sys
    from download_cases import AT_ONCE, an_entry
    from ProxyPromptSegmentLib.errors import ProxyPromptError
    from ProxyPromptSegmentLib.weights.cache import ModelCache
    from pathlib import Path
    try:
        print(ModelCache(Path(sys.argv[2])).download(an_entry(sys.argv[1]), manner=AT_ONCE))
    except ProxyPromptError as error:
        print(error)
        sys.exit(error.exit_code)
"""


def a_program(url: str, folder: Path) -> subprocess.Popen:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "Testing" / "helpers")])
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), url, str(folder)]
    environment = {**os.environ, "PYTHONPATH": paths, "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_until(condition) -> None:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


# --- several processes ---------------------------------------------------------------------------------------------


def test_three_processes_at_once_download_once(server, cache) -> None:
    url = server.serve("/w", CONTENT, pause=0.03)
    programs = [a_program(url, cache.folder) for _ in range(3)]
    said = [program.communicate(timeout=60) for program in programs]
    assert [program.returncode for program in programs] == [0, 0, 0], said
    assert len(server.asked) == 1 and server.sent == len(CONTENT)
    assert {out.strip() for out, _ in said} == {str(cache.folder / "weights" / "w.pth")}
    assert files(cache) == RIGHT


def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_with(server, cache) -> None:
    url = server.serve("/w", CONTENT, pause=0.05)
    program = a_program(url, cache.folder)
    wait_until(lambda: cache.kept(an_entry(url)) > 50_000)
    program.kill()
    program.communicate(timeout=60)
    kept = cache.kept(an_entry(url))
    assert 50_000 < kept < len(CONTENT) and not cache.is_installed(an_entry(url))
    server.serve("/w", CONTENT)
    assert cache.download(an_entry(url), manner=AT_ONCE)
    assert server.asked[-1].start == kept and files(cache) == RIGHT


def test_whoever_waits_for_another_download_can_be_stopped(server, cache) -> None:
    entry = an_entry(server.serve("/w", CONTENT, silence=lambda number: 1.0))
    other = threading.Thread(target=lambda: cache.download(entry, manner=AT_ONCE))
    other.start()
    wait_until(lambda: len(server.asked) == 1)
    cancel = CancelToken()

    class Impatient(Progress):
        def start(self, total: int, what: str) -> None:
            assert "another program is downloading it" in what
            cancel.cancel()

    assert cache.download(entry, Impatient(), cancel, AT_ONCE) is None
    other.join()
    assert files(cache) == RIGHT and len(server.asked) == 1


# --- the disk ------------------------------------------------------------------------------------------------------


def test_what_will_not_fit_is_not_begun(server, cache, monkeypatch) -> None:
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 200_000}))
    with pytest.raises(OutputError, match=r"1.3 MB are needed in .*, 0.2 MB are free; .* PROXYPROMPT_CACHE"):
        cache.download(an_entry(server.serve("/w", CONTENT)), manner=AT_ONCE)
    assert server.asked == [] and files(cache) == {}


def test_a_disk_that_becomes_full_is_told_and_nothing_is_left(server, cache) -> None:
    resource = pytest.importorskip("resource")
    entry, limits = an_entry(server.serve("/w", CONTENT)), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OutputError, match="is full; no partial file was left. Free up space"):
            cache.download(entry, manner=AT_ONCE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(cache) == {}
    assert cache.download(entry, manner=AT_ONCE)


def test_a_small_file_system_that_becomes_full_is_told_and_nothing_is_left(server, tmp_path, monkeypatch) -> None:
    """A real file system of 1 MB; another program fills it while the download runs."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("only root may mount a file system here; the test before this one fills a quota instead")
    try:
        cache, content = ModelCache(disk / "cache"), CONTENT * 3
        entry = an_entry(server.serve("/w", content), content=content)
        with pytest.raises(OutputError, match="1.9 MB are needed"):
            cache.download(entry, manner=AT_ONCE)
        monkeypatch.setattr(cache_module, "_RESERVE", 0)

        class Filling(Progress):
            def step(self, n: int = 1, note: str = "") -> None:
                try:
                    (disk / "other").write_bytes(bytes(1 << 20))
                except OSError:
                    pass

        with pytest.raises(OutputError, match="is full; no partial file was left"):
            cache.download(entry, Filling(), manner=AT_ONCE)
        assert files(cache) == {}
        (disk / "other").unlink()
        assert cache.download(entry, manner=AT_ONCE).read_bytes() == content
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def nobody():
    """Rights of an ordinary user, where the tests run as root, whom no permission stops."""
    if os.name == "nt" or os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_cache_that_may_not_be_written_is_told_and_what_is_in_it_can_be_used(server, monkeypatch, request) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, whose parents another user cannot enter
        folder = Path(name)
        entry, other = an_entry(server.serve("/w", CONTENT)), an_entry(server.serve("/w", CONTENT), name="other")
        cache = ModelCache(folder / "cache")
        cache.download(entry, manner=AT_ONCE)
        for path in (folder, cache.folder, *cache.folder.rglob("*")):
            path.chmod(0o555)
        request.getfixturevalue("nobody")
        with pytest.raises(OutputError, match=r"cache cannot be written \(Permission denied\); .* PROXYPROMPT_CACHE"):
            cache.download(other, manner=AT_ONCE)
        with pytest.raises(OutputError, match="cannot be removed"):
            cache.remove(entry)
        assert cache.download(entry, manner=AT_ONCE) == cache.path_of(entry)
        if os.name != "nt" and os.getuid() == 0:
            os.seteuid(0)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert len(server.asked) == 1


def test_a_file_in_the_place_of_the_cache_is_told(server, cache) -> None:
    cache.folder.write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        cache.download(an_entry(server.serve("/w", CONTENT)), manner=AT_ONCE)


def test_the_cache_lies_where_the_variable_says_and_else_outside_of_the_program(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "shared"))
    assert cache_folder() == tmp_path / "shared" == ModelCache().folder
    monkeypatch.delenv("PROXYPROMPT_CACHE")
    assert ROOT not in cache_folder().parents and cache_folder().is_absolute()


# --- encryption, certificates, proxies -----------------------------------------------------------------------------


def test_http_is_refused_unless_the_user_says_otherwise(server, cache) -> None:
    with pytest.raises(CheckpointError, match="is not encrypted; only https is used") as caught:
        cache.download(an_entry(server.serve("/w", CONTENT)))
    assert caught.value.remedy.kind is RemedyKind.ALLOW_HTTP
    assert server.asked == [] and files(cache) == {}


@pytest.mark.parametrize("target", ["http://127.0.0.1/w", "HTTP://127.0.0.1/w", "file:///etc/passwd", "ftp://h/w"])
def test_a_redirect_from_https_to_anything_else_is_refused(target) -> None:
    with pytest.raises(RefusedError):
        _Redirects(allow_http=False).redirect_request(Request("https://a/w"), None, 302, "Found", None, target)
    assert _Redirects(False).redirect_request(Request("https://a/w"), None, 302, "Found", None, "https://b/w")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = (str(folder / "certificate.pem"), str(folder / "key.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]]
    try:
        made = subprocess.run(command, capture_output=True)
    except OSError:
        pytest.skip("there is no openssl to make a certificate with")
    if made.returncode:
        pytest.skip(f"this openssl makes no such certificate: {made.stderr.decode()[-200:]}")
    return paths


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_https_needs_a_certificate_that_is_trusted_and_variables_can_name_it(
    cache, certificate, variable, monkeypatch
) -> None:
    with HostileServer(certificate=certificate) as server:
        entry = an_entry(server.serve("/w", CONTENT, cut=lambda number, size: 1000 if number == 0 else None))
        with pytest.raises(CheckpointError, match="certificate cannot be verified .*set SSL_CERT_FILE"):
            cache.download(entry)
        assert server.asked == []
        monkeypatch.setenv(variable, certificate[0])
        assert cache.download(entry)
        assert server.asked[-1].start == 1000 and files(cache) == RIGHT


def test_a_bundle_of_certificates_that_is_none_is_a_sentence(cache, tmp_path, monkeypatch) -> None:
    for named in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        (tmp_path / "empty.pem").write_text("no certificate")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(named))
        with pytest.raises(CheckpointError, match="REQUESTS_CA_BUNDLE names .* cannot be read as certificates"):
            cache.download(an_entry("https://127.0.0.1:9/w"))


def test_a_redirect_from_https_to_http_fetches_nothing(cache, certificate, monkeypatch, server) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    plain = server.serve("/w", CONTENT)
    with HostileServer(certificate=certificate) as secure:
        entry = an_entry(secure.serve("/r", location=plain))
        with pytest.raises(CheckpointError, match="http://127.0.0.1.* is not encrypted; only https"):
            cache.download(entry)
        assert server.asked == [] and len(secure.asked) == 1 and files(cache) == {}
        assert cache.download(entry, manner=Manner(allow_http=True))  # in so many words
        url = secure.serve("/r2", location=secure.serve("/w", CONTENT))
        assert cache.download(an_entry(url, name="other"))  # from https to https is what mirrors do


def test_the_proxy_of_the_environment_is_asked(server, cache, monkeypatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", server.url(""))
    server.serve("/w", CONTENT, cut=lambda number, size: 1000 if number == 0 else None)
    assert cache.download(an_entry("http://weights.invalid/w"), manner=AT_ONCE)
    assert [asked.path for asked in server.asked] == ["http://weights.invalid/w"] * 2
    assert server.asked[1].start == 1000 and files(cache) == RIGHT


def test_a_proxy_for_https_that_is_not_there_is_told(cache, monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(CheckpointError, match="weights.invalid: it cannot be reached ") as caught:
        cache.download(an_entry("https://weights.invalid/w"), manner=Manner(pauses=()))
    assert "proxy" in worded(caught.value)


def test_the_program_says_its_name_and_asks_for_the_bytes_as_they_are(server, cache) -> None:
    cache.download(an_entry(server.serve("/w", CONTENT)), manner=AT_ONCE)
    headers = server.asked[0].headers
    assert headers["User-Agent"].startswith("ProxyPromptSegment/") and headers["Accept-Encoding"] == "identity"
    assert Connections().allow_http is False


# --- import --------------------------------------------------------------------------------------------------------


def test_files_on_a_stick_are_known_by_their_hash_and_not_by_their_name(cache, tmp_path) -> None:
    stick = tmp_path / "stick"
    (stick / "deep").mkdir(parents=True)
    (stick / "deep" / "anything.bin").write_bytes(CONTENT)
    (stick / "w.pth").write_bytes(CONTENT[:-1] + b"x")
    (stick / "letter.txt").write_text("hello")
    entry = an_entry()
    found = recognise([stick], [entry])
    assert [(file.path.name, file.entry) for file in found] == [("anything.bin", entry), ("w.pth", None)]
    assert cache.take(entry, found[0].path).read_bytes() == CONTENT
    assert files(cache) == RIGHT
    with pytest.raises(CheckpointError, match="does not exist; give a file of weights, or a folder"):
        recognise([tmp_path / "gone"], [entry])


def test_a_file_that_changes_while_it_is_imported_does_not_get_the_name(cache, tmp_path) -> None:
    (tmp_path / "w").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is not the file of 'weights': it has SHA-256"):
        cache.take(an_entry(), tmp_path / "w")
    (tmp_path / "w").write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="'weights' was not imported: .*299999 bytes"):
        cache.take(an_entry(), tmp_path / "w")
    assert files(cache) == {}


def test_what_is_kept_of_a_download_can_be_imported_and_is_never_lost_by_it(cache) -> None:
    entry = an_entry()
    part = cache._part(entry, len(CONTENT)).path
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="has 299999 bytes instead of 300000"):
        cache.take(entry, part)
    assert cache.kept(entry) == len(CONTENT) - 1
    part.write_bytes(CONTENT)  # as a power cut before it had its name leaves it
    assert recognise([cache.folder], [entry])[0].entry == entry
    assert cache.take(entry, part).read_bytes() == CONTENT
    assert files(cache) == RIGHT


def test_a_cancelled_import_leaves_nothing(cache, tmp_path) -> None:
    (tmp_path / "w").write_bytes(CONTENT)
    cancel = CancelToken()

    class StopAtOnce(Progress):
        def step(self, n: int = 1, note: str = "") -> None:
            cancel.cancel()

    assert cache.take(an_entry(), tmp_path / "w", StopAtOnce(), cancel) is None
    assert files(cache) == {}


def test_the_hash_of_a_file_that_nobody_vouches_for_is_remembered(cache, tmp_path) -> None:
    entry = an_entry(sha256=None, bytes=None)
    (tmp_path / "w").write_bytes(CONTENT)
    path = cache.take(entry, tmp_path / "w")
    (tmp_path / "other").write_bytes(CONTENT[1:])
    with pytest.raises(CheckpointError, match="is on this machine as another file; remove that first"):
        cache.take(entry, tmp_path / "other")
    assert cache.take(entry, tmp_path / "w") == path
    assert cache.expected(entry) == hashlib.sha256(CONTENT).hexdigest() and cache.check(entry) is None
    path.write_bytes(CONTENT[:-1] + b"x")
    assert "it has SHA-256" in cache.check(entry)
    assert cache.remove(entry) == len(CONTENT)
    assert files(cache) == {} and cache.expected(entry) is None
