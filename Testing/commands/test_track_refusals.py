"""What ``proxyprompt track`` refuses, how it is stopped, and what is then on the disk."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import SimpleITK as sitk
from PIL import Image

from command_cases import ROOT, InContextModel, a_case, write_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import track_files
from ProxyPromptSegmentLib.imaging import output_files
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.tracking import tracker
from signals import SignalAt
from track_cases import COUNT, TrackDesk, labels_of, read_frames, save


def _file(path: Path, content: bytes = b"no image at all") -> Path:
    path.write_bytes(content)
    return path


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        _file(path / name)
    return path


def _volume(desk: TrackDesk, output: str = "r.seg.nrrd") -> dict[str, object]:
    return {"target": write_case(desk.folder, "new", a_case(2))[0], "output": desk.folder / output}


def _empty_mask(desk: TrackDesk) -> dict[str, object]:
    return {"support": (desk.support, save(desk.folder / "empty.png", np.zeros((64, 64), np.uint8)))}


def _sequence_of_volumes(desk: TrackDesk) -> dict[str, object]:
    frames = [sitk.GetImageFromArray(np.random.default_rng(n).random((4, 12, 12))) for n in range(3)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(desk.folder / "t.nrrd"))
    return {"target": desk.folder / "t.nrrd"}


BAD = {
    "no support": (lambda d: {"support": ()}, [], 2, "--support"),
    "an empty mask": (_empty_mask, [], 4, "nothing is marked"),
    "an unknown object": (lambda d: {}, ["--object", "liver"], 4, "it has 'label 1', 'label 2'"),
    "a missing target": (lambda d: {"target": d.folder / "no.mp4"}, [], 3, "does not exist; give a video, a folder of"),
    "a folder that exists for masks": (
        lambda d: {"output": _folder(d.folder / "m")}, [], 6, "already exists; give the name of a new one"
    ),
    "an empty video": (lambda d: {"target": _file(d.folder / "v.mp4", b"")}, [], 3, "0 bytes"),
    "an empty folder": (lambda d: {"target": _folder(d.folder / "f")}, [], 3, "neither pictures"),
    "a folder of damaged frames": (lambda d: {"target": _folder(d.folder / "f", "1.png", "2.png")}, [], 3, "none of"),
    "a sequence of volumes": (_sequence_of_volumes, [], 3, "single slices"),
    "frames beyond the end": (lambda d: {}, ["--frames", "3:9"], 2, "0 to 5"),
    "slices beyond the end": (_volume, ["--frames", "3:9"], 2, "0 to 5"),
    "frames in words": (lambda d: {}, ["--frames", "some"], 2, "5:20"),
    "an axis for frames": (lambda d: {}, ["--axis", "j"], 2, "--axis is for volumes"),
    "an unknown mode": (lambda d: {}, ["--mode", "bank_only"], 2, "proxy_only"),
    "support slices for one of two": (
        lambda d: {}, ["--support", lambda d: d.support, lambda d: d.marks, "--support-slices", "0"], 2, "once for each"
    ),
    "an unknown model": (lambda d: {"model": "sam3-huge"}, [], 7, "there is no model 'sam3-huge'"),
    "a model that is not installed": (lambda d: {"model": "sam-compact"}, [], 7, "not installed"),
    "an output without a known suffix": (lambda d: {"output": d.folder / "r.txt"}, [], 6, ".seg.nrrd"),
    "a sequence of a volume": (lambda d: _volume(d, "r.seq.nrrd"), [], 6, "is a volume"),
    "a folder for a volume": (lambda d: _volume(d, "r"), [], 6, "one file"),
    "an output in no folder": (lambda d: {"output": d.folder / "no" / "r.seq.nrrd"}, [], 6, "does not exist"),
    "an output among the frames": (lambda d: {"output": d.target / "r.seq.nrrd"}, [], 2, "choose another folder"),
    "a table that is no table": (lambda d: {}, ["--table", lambda d: d.folder / "t.xlsx"], 6, ".csv"),
    "an overlay that is a picture": (lambda d: {}, ["--overlay", lambda d: d.folder / "o.png"], 6, ".gif"),
    "two outputs in one file": (
        lambda d: {}, ["--overlay", lambda d: d.folder / "o.gif", "--report", lambda d: d.folder / "o.gif"], 2,
        "is also the file of --overlay"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_sentence_before_the_network_is_loaded(track_desk, no_model, capsys, what) -> None:
    change, more, code, words = BAD[what]
    options = [word(track_desk) if callable(word) else word for word in more]
    call = track_desk.words(*options, **change(track_desk))
    before = track_desk.files()
    assert main(call) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.err.startswith("proxyprompt")
    assert said.out == ""
    assert track_desk.files() == before


def test_bad_input_is_refused_by_the_process_without_torch(track_desk) -> None:
    code = (
        "import sys; from ProxyPromptSegmentLib.cli import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *track_desk.words("--object", "liver")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr


def test_a_model_without_memory_is_refused_and_another_one_named(track_desk, monkeypatch, capsys) -> None:
    monkeypatch.setattr(checkpoints, "load_model", lambda *_, **__: (InContextModel(), {"name": "slices"}))
    before = track_desk.files()
    assert main(track_desk.all_words()) == 2
    err = capsys.readouterr().err
    assert "has no memory" in err
    assert "sam2-compact" in err
    assert track_desk.files() == before


def test_a_target_without_one_frame_that_can_be_used_leaves_nothing(track_desk, capsys) -> None:
    _file(track_desk.target / "frame_3.png")
    before = track_desk.files()
    assert main(track_desk.all_words("--frames", "3")) == 3
    assert "none of the 1 frames of sweep can be used (frame 3: " in capsys.readouterr().err
    assert track_desk.files() == before


@pytest.mark.parametrize("option", ["--output", "--table", "--overlay", "--report"])
def test_an_existing_result_is_neither_replaced_nor_touched_without_force(track_desk, capsys, option) -> None:
    path = {"--output": track_desk.output, "--table": track_desk.table, "--overlay": track_desk.overlay}.get(
        option, track_desk.report
    )
    path.write_bytes(b"mine")
    assert main(track_desk.all_words()) == 6
    assert "--force" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"
    assert main(track_desk.all_words("--force")) == 0
    assert path.read_bytes() != b"mine"


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(
    track_desk, closed_folder, no_model, capsys
) -> None:
    assert main(track_desk.words(output=closed_folder / "r.seq.nrrd")) == 6
    assert "may not be written" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_refused_before_the_work(track_desk, no_model, capsys) -> None:
    assert main(track_desk.words(output=track_desk.support / "r.seq.nrrd")) == 6
    assert str(track_desk.support) in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_and_keeps_older_files(track_desk, full_disk, capsys) -> None:
    track_desk.table.write_bytes(b"older")
    before = track_desk.files()
    assert main(track_desk.all_words("--force")) == 6
    assert "No space left" in capsys.readouterr().err
    assert track_desk.files() == before
    assert track_desk.table.read_bytes() == b"older"


def test_what_was_written_before_the_disk_was_full_is_whole(track_desk, monkeypatch, capsys) -> None:
    def full(*_: object, **__: object) -> None:
        monkeypatch.setattr(output_files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))

    drawn = track_files.write_overlay
    monkeypatch.setattr(track_files, "write_overlay", lambda *words, **more: [full(), drawn(*words, **more)][1])
    assert main(track_desk.all_words()) == 6
    said = capsys.readouterr().err
    assert "No space left" in said and f"{track_desk.output} were complete before and are kept." in said
    assert len(read_frames(track_desk.output)) == COUNT
    assert track_desk.table.is_file()
    assert not track_desk.overlay.exists()
    assert not list(track_desk.folder.glob(".*partial*"))


@pytest.mark.parametrize("option", ["output", "table", "overlay", "report"])
def test_a_result_that_appears_during_the_work_is_kept(track_desk, monkeypatch, option) -> None:
    path, step = getattr(track_desk, option), tracker.Tracker.step

    def slow(self, *words: object) -> object:
        path.write_bytes(b"somebody else's")
        return step(self, *words)

    monkeypatch.setattr(tracker.Tracker, "step", slow)
    assert main(track_desk.all_words()) == 6
    assert path.read_bytes() == b"somebody else's"


# --- stopping ------------------------------------------------------------------------------------------------------


def _progress(monkeypatch, number: int, times: int = 1, stage: str = "tracking") -> None:
    made = SignalAt(number, times, (stage,))
    monkeypatch.setattr("ProxyPromptSegmentLib.commands.console.ConsoleProgress", lambda *_: made)


def test_ctrl_c_in_the_middle_keeps_masks_table_overlay_and_report(track_desk, monkeypatch, capsys) -> None:
    _progress(monkeypatch, 3)
    assert main(track_desk.all_words("--progress")) == 130
    found = read_frames(track_desk.output)
    np.testing.assert_array_equal(found, [labels_of(masks) for masks in track_desk.truth[:3]])
    with track_desk.table.open(encoding="utf-8") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == ["0", "0", "1", "1", "2", "2"]
    with Image.open(track_desk.overlay) as picture:
        assert picture.n_frames == 3
    report = json.loads(track_desk.report.read_text("utf-8"))
    assert report["state"] == "stopped by the user"
    assert (report["frames_done"], report["frames_wanted"]) == ([0, 1, 2], COUNT)
    assert "3 of 6 frames" in capsys.readouterr().err


def test_ctrl_c_in_a_volume_keeps_the_slices_that_are_done(tmp_path, following, monkeypatch, capsys) -> None:
    support = write_case(tmp_path, "old", a_case(1))
    target, _ = write_case(tmp_path, "new", a_case(2))
    desk, output = TrackDesk(tmp_path, following), tmp_path / "found.seg.nrrd"
    steps = SignalAt(2)
    steps.start, start = lambda total, what: start(total, what) if what == "tracking" else None, steps.start
    steps.step, step = lambda *words: step(*words) if steps.what == "tracking" else None, steps.step
    monkeypatch.setattr("ProxyPromptSegmentLib.commands.console.ConsoleProgress", lambda *_: steps)
    words = desk.words("--progress", "--report", desk.report, support=support, target=target, output=output)
    assert main(words) == 130
    done = json.loads(desk.report.read_text("utf-8"))["frames_done"]
    assert len(done) == 2
    mask = read_segmentation(output).segments[0].mask
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) <= set(done)
    assert mask.any()
    assert "2 of 6 slices" in capsys.readouterr().err


def test_ctrl_c_while_a_volume_is_searched_for_its_beginning_writes_nothing(
    tmp_path, following, monkeypatch, capsys
) -> None:
    support = write_case(tmp_path, "old", a_case(1))
    target, _ = write_case(tmp_path, "new", a_case(2))
    desk = TrackDesk(tmp_path, following)
    before = desk.files()
    _progress(monkeypatch, 1, stage="searching for the slice most like the support")
    words = desk.all_words("--progress", support=support, target=target, output=tmp_path / "found.seg.nrrd")
    assert main(words) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert desk.files() == before


def test_a_second_ctrl_c_keeps_the_table_alone(track_desk, monkeypatch, capsys) -> None:
    _progress(monkeypatch, 3, times=2)
    before = track_desk.files()
    assert main(track_desk.all_words("--progress")) == 130
    assert f"stopped immediately; {track_desk.table} was complete" in capsys.readouterr().err
    assert track_desk.files() - before == {track_desk.table.name}
    assert len(track_desk.table.read_text("utf-8").splitlines()) == 1 + 2 * 3


def test_ctrl_c_before_the_first_frame_writes_nothing(track_desk, monkeypatch, capsys) -> None:
    before = track_desk.files()
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda *words: [signal.raise_signal(signal.SIGINT), load(*words)][1])
    assert main(track_desk.all_words()) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert track_desk.files() == before


def test_a_device_that_runs_out_of_memory_is_exit_code_8(track_desk, monkeypatch, capsys) -> None:
    before = track_desk.files()

    def hungry(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tracker.Tracker, "step", hungry)
    assert main(track_desk.all_words()) == 8
    assert "does not fit into the memory of cpu" in capsys.readouterr().err
    assert track_desk.files() == before
