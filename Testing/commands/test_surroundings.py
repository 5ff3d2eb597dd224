"""Terminals, names and locales that are not as usual: the command says what it has to say, or works."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dicom_cases import write_dicom
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.output_files import check_output_path
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
LATIN_1 = os.fsdecode(b"M\xfcller")
GRID = VolumeGeometry((6, 5, 4))


def a_volume() -> Volume:
    return Volume(np.arange(120, dtype=np.float32).reshape(GRID.shape_kji), GRID)


def a_mask() -> Segmentation:
    mask = np.zeros(GRID.shape_kji, np.uint8)
    mask[1:3, 1:3] = 1
    return Segmentation([Segment("label 1", mask)], GRID)


def run_in_shell(redirected: str, **surroundings: str) -> subprocess.CompletedProcess[bytes]:
    command = f'"{sys.executable}" -m ProxyPromptSegmentLib models list {redirected}'
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, env={**os.environ, **surroundings}, check=False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes streams")
@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_changes_nothing_about_the_result(redirected, home) -> None:
    done = run_in_shell(redirected)
    assert done.returncode == 0 and b"Traceback" not in done.stderr and b"Exception" not in done.stderr


def test_json_stays_json_where_the_terminal_knows_no_umlauts(home) -> None:
    (home / "own.json").write_text(
        json.dumps({"format": 2, "models": [{"name": "größe", "kind": "model", "file": "x.safetensors"}]})
    )
    done = run_in_shell("--json", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_name_that_is_not_utf_8_is_read(tmp_path) -> None:
    for suffix in (".nrrd", ".nii.gz", ".mha"):
        write_volume(tmp_path / f"x{suffix}", a_volume())
        (tmp_path / f"x{suffix}").rename(tmp_path / f"{LATIN_1}{suffix}")
        np.testing.assert_array_equal(read_volume(tmp_path / f"{LATIN_1}{suffix}").array, a_volume().array)
    write_segmentation(tmp_path / "x.seg.nrrd", a_mask())
    (tmp_path / "x.seg.nrrd").rename(tmp_path / f"{LATIN_1}.seg.nrrd")
    assert read_segmentation(tmp_path / f"{LATIN_1}.seg.nrrd").names == ["label 1"]
    write_dicom(tmp_path / "s", "1.2.3.1", "T2w")
    expected = read_volume(tmp_path / "s").array
    (tmp_path / "s").rename(tmp_path / LATIN_1)
    np.testing.assert_array_equal(read_volume(tmp_path / LATIN_1).array, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_result_may_have_a_name_that_is_not_utf_8_and_its_folder_may_not(tmp_path) -> None:
    for suffix in (".nii.gz", ".seg.nrrd", ".nrrd"):
        path = tmp_path / f"{LATIN_1}{suffix}"
        check_output_path(path, (suffix,))
        write_segmentation(path, a_mask())
        np.testing.assert_array_equal(read_segmentation(path).segments[0].mask, a_mask().segments[0].mask)
    (tmp_path / LATIN_1).mkdir()
    with pytest.raises(OutputError, match="not UTF-8"):
        check_output_path(tmp_path / LATIN_1 / "x.nrrd", (".nrrd",))


def test_a_name_of_as_many_bytes_as_a_file_may_have_is_written_and_a_longer_one_refused_before(tmp_path) -> None:
    path = tmp_path / (chr(0x1F9E0) * 61 + ".nrrd")
    check_output_path(path, (".nrrd",))
    write_segmentation(path, a_mask())
    assert path.is_file() and [file.name for file in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OutputError, match="more than 255 bytes"):
        check_output_path(tmp_path / (chr(0x1F9E0) * 63 + ".nrrd"), (".nrrd",))
    with pytest.raises(OutputError, match="does not exist"):
        check_output_path(tmp_path / (chr(0x1F9E0) * 63) / "a.nrrd", (".nrrd",))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_that_leads_to_itself_is_no_place_for_a_result(desk, no_model, capsys) -> None:
    loop = desk.folder / "loop.seg.nrrd"
    loop.symlink_to(loop)
    assert main(desk.words(output=loop)) in (2, 6)
    assert "link that leads to itself" in capsys.readouterr().err


def test_numbers_of_thousands_of_digits_are_refused(desk, no_model, capsys) -> None:
    assert main(desk.words("--slices", "9" * 5000)) == 2
    assert "digits" in capsys.readouterr().err


def test_a_warning_begins_with_a_capital_unless_it_begins_with_a_file(capsys) -> None:
    import logging

    console = Console()
    with console.listening() as heard:
        for words in ("truth.seg.nrrd: 3 voxels are cropped", "the image is dark", "scans/a is cut."):
            logging.getLogger("ProxyPromptSegmentLib.x").warning(words)
    assert heard == ["truth.seg.nrrd: 3 voxels are cropped.", "The image is dark.", "scans/a is cut."]


def test_a_warning_that_is_logged_twice_is_printed_once(capsys) -> None:
    import logging

    console = Console()
    with console.listening() as heard:
        for _ in range(2):  # a file that is read for its size first
            logging.getLogger("ProxyPromptSegmentLib.x").warning("m.png has soft edges.")
    assert heard == ["m.png has soft edges."] and capsys.readouterr().err.count("soft edges") == 1


def test_the_help_of_the_program_names_your_own_cases(capsys) -> None:
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "evaluate measure models on annotated cases of your own" in said
    assert "or cases of evaluate --cases or library import, failed" in said


def test_a_disk_that_is_full_for_the_table_costs_the_table_and_not_the_masks(track_desk, monkeypatch, capsys) -> None:
    import errno

    from ProxyPromptSegmentLib.reports.frame_table import TrackTable

    write, rows = TrackTable._write, []

    def full(self, values) -> None:
        rows.append(values)
        if len(rows) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, values)

    monkeypatch.setattr(TrackTable, "_write", full)
    assert main(track_desk.all_words()) == 6
    assert "No space left" in capsys.readouterr().err
    assert track_desk.output.is_file() and track_desk.report.is_file() and not track_desk.table.exists()
    assert not list(track_desk.folder.glob(".*"))


def test_a_home_that_may_not_be_entered_is_no_obstacle(monkeypatch, tmp_path, caplog) -> None:
    from ProxyPromptSegmentLib import user_folders
    from ProxyPromptSegmentLib.weights.registry import all_entries

    def refused(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    class Closed(type(tmp_path)):
        is_file = refused

    monkeypatch.setattr("ProxyPromptSegmentLib.weights.registry.user_registry", lambda: Closed(tmp_path / "own.json"))
    assert all_entries() and "cannot be read (Permission denied)" in caplog.text

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(user_folders.Path, "home", staticmethod(nobody))
    assert user_folders.install_folders()


def test_a_demo_that_was_killed_is_repeated(tmp_path, model, monkeypatch) -> None:
    from ProxyPromptSegmentLib.commands import demo

    folder = tmp_path / "demo"
    demo.claim_folder(folder)
    demo._mark(folder, ())
    (folder / demo.FILES[0]).write_bytes(b"half a file")
    demo.claim_folder(folder)  # is not in the way

    def killed(*_args: object) -> None:
        patch.setattr(demo, "_mark", lambda *_: None)  # it has no chance to note what it has written
        raise SystemError

    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(demo, "perform", killed)
        demo.run(argparse.Namespace(output=folder, model=model, device="cpu", json=False), Console(quiet=True))
    demo.claim_folder(folder)
    (folder / demo.TARGET).write_bytes(b"my own scan")
    with pytest.raises(OutputError, match=r"target\.nrrd already exists: .* was changed since"):
        demo.claim_folder(folder)
    (folder / demo.TARGET).unlink()
    demo._mark(folder)
    (folder / demo.FILES[0]).write_bytes(b"changed by hand")
    with pytest.raises(OutputError, match="was changed since"):
        demo.claim_folder(folder)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_stops_as_ctrl_c_does() -> None:
    from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run without a terminal, and ignore it
    try:
        with stop_on_signals(lambda words: None) as cancel:
            signal.raise_signal(signal.SIGHUP)
            assert cancel.cancelled
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_lock_of_a_library_is_for_all_who_may_write_to_it_and_clocks_may_differ(tmp_path, monkeypatch) -> None:
    import time

    from library_cases import a_case
    from ProxyPromptSegmentLib.library.store import SupportLibrary

    (tmp_path / "library").mkdir()
    (tmp_path / "library").chmod(0o777)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 90_000)  # a day ahead of the file server's
    library = SupportLibrary(tmp_path / "library")
    library.save(*a_case(), title="x")
    assert [entry.title for entry in library.entries()] == ["x"]
    assert (tmp_path / "library" / ".lock").stat().st_mode & 0o777 == 0o666


def test_what_would_steer_a_terminal_is_not_written_to_it(capsys) -> None:
    Console().say("a model named \x1b[2Jx\x07 and two\nlines")
    assert capsys.readouterr().out == "a model named \ufffd[2Jx\ufffd and two\nlines\n"
    Console().say("x.nrrd\rdone, all well")
    assert capsys.readouterr().out == "x.nrrd\ufffddone, all well\n"
    Console().status("x\ry: 1 of 2")
    assert capsys.readouterr().err == "proxyprompt: x y: 1 of 2\n"
    console = Console(progress=True)
    console.progress.start(2, "a set\x1b[2J of\nimages")
    console.progress.step(2, "a\x07 patient")
    assert "a set\ufffd[2J of images [" in capsys.readouterr().err


def test_a_name_in_utf_8_is_shown_as_such_where_the_system_knows_only_ascii(capsys) -> None:
    name = "M\u00fcller \u80be.nrrd".encode().decode("ascii", "surrogateescape")  # as Python then has it
    Console().say(name)
    assert capsys.readouterr().out == "M\u00fcller \u80be.nrrd\n"
    Console().warn("latin-1 \udcfc.nrrd is empty")
    assert "latin-1 \ufffd.nrrd is empty" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="names have no line breaks there")
def test_a_line_break_in_a_name_gets_neither_into_messages_nor_pictures(desk, capsys) -> None:
    target = desk.folder / "a\nb.nrrd"
    target.write_bytes(Path(desk.target).read_bytes())
    assert main(desk.words("--preview", desk.folder / "look.png", target=target)) == 0
    assert (desk.folder / "look.png").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_whole_run_with_names_that_are_not_utf_8(desk, capsys) -> None:
    target = desk.folder / f"{LATIN_1}.nrrd"
    target.write_bytes(Path(desk.target).read_bytes())
    output, report = desk.folder / f"{LATIN_1}.seg.nrrd", desk.folder / "r.json"
    words = desk.words("--report", report, "--preview", desk.folder / "p.png", target=target, output=output)
    assert main(words) == 0
    assert json.loads(report.read_text())
    assert main(desk.words()) == 0
    same_masks(output, desk.output)


def same_masks(found: Path, expected: Path) -> None:
    one, other = read_segmentation(found), read_segmentation(expected)
    assert one.names == other.names and any(segment.mask.any() for segment in other.segments)
    for first, second in zip(one.segments, other.segments, strict=True):
        np.testing.assert_array_equal(first.mask, second.mask)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_without_a_stream_the_masks_are_the_same(desk, monkeypatch, closed) -> None:
    assert main(desk.words()) == 0
    output = desk.folder / "other.seg.nrrd"
    with monkeypatch.context() as patched:
        patched.setattr(sys, closed, None)  # as in pythonw, in services, and where the descriptor was closed
        assert main(desk.words(output=output)) == 0
    same_masks(output, desk.output)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows sends no signals between processes")
def test_ctrl_c_while_a_reader_keeps_the_output_waiting_still_stops_after_the_slice() -> None:
    """As under `| less`: nothing can be said in the middle of a write, which must not end the run."""
    from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals

    reading, writing = os.pipe()
    stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(writing, "w")), write_through=True)
    console = Console(err=stream, progress=False)

    def read_late() -> None:
        time.sleep(0.2)  # the pipe is full by now
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        while os.read(reading, 1 << 16):
            pass

    reader = threading.Thread(target=read_late)
    reader.start()
    with stop_on_signals(console.status) as cancel:
        stream.write("x" * (1 << 18))
        assert cancel.cancelled
    stream.close()
    reader.join()
