"""``proxyprompt track``: what it makes of clips and volumes, what it tells, and what it leaves on the disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image

from command_cases import COLORS, DONE, GRID, TERMS, a_case, write_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND, UsageError
from ProxyPromptSegmentLib.frames import open_frames
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.frames.source import first_window
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.inference.calibration import PRESENCE, QUALITY, Calibration
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.tracking import tracker
from ProxyPromptSegmentLib.wording import ranges
from track_cases import COUNT, TrackDesk, a_frame, labels_of, read_frames, save, write_clip


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- what is followed ----------------------------------------------------------------------------------------------


def test_a_frame_of_another_sweep_is_followed_through_a_folder_of_frames(track_desk, capsys) -> None:
    assert main(track_desk.all_words()) == 0
    found = read_frames(track_desk.output)
    np.testing.assert_array_equal(found, [labels_of(masks) for masks in track_desk.truth])
    said = capsys.readouterr()
    assert said.err == ""
    assert f"{COUNT} frames done" in said.out
    assert "label 1: on 6 frames, 0 to 5" in said.out
    assert "lowest confidence 0.85 on frame 5, 0.86 on frame 4, 0.87 on frame 3" in said.out
    assert "disagree on no frame" in said.out
    assert "frames per second" in said.out
    assert said.out.endswith("Research use only. Not for diagnosis.\n")


def test_the_table_has_a_row_for_each_frame_and_object_that_agrees_with_the_masks(track_desk) -> None:
    assert main(track_desk.all_words("--quiet")) == 0
    rows = rows_of(track_desk.table)
    assert [(row["frame"], row["object"]) for row in rows[:3]] == [("0", "label 1"), ("0", "label 2"), ("1", "label 1")]
    areas = [str(int(mask.sum())) for masks in track_desk.truth for mask in masks]
    assert [row["area_px"] for row in rows] == areas
    assert {row["area_mm2"] for row in rows} == {""}  # a picture has no millimetres
    assert {row["state"] for row in rows} == {"ok"}
    assert [float(row["confidence"]) for row in rows[::2]] == pytest.approx(
        [0.8978 - 0.00998 * n for n in range(6)], abs=1e-4
    )


def test_the_report_says_from_what_with_what_and_what_came_of_it(track_desk, capsys) -> None:
    assert main(track_desk.all_words("--json")) == 0
    out = capsys.readouterr().out
    report = json.loads(track_desk.report.read_text("utf-8"))
    assert json.loads(out) == report
    assert (report["state"], report["research_use_only"]) == ("complete", True)
    target = report["inputs"]["target"]
    assert (target["kind"], target["files"], target["frames"], target["shape"]) == ("folder", COUNT, COUNT, [64, 64])
    assert target["window"] == pytest.approx([20, 255])
    assert report["inputs"]["supports"][0]["slices"] == [{"slice": 0, "objects": ["label 1", "label 2"]}]
    assert report["model"]["name"] == "double"
    assert report["settings"]["mode"] == "proxy+bank"
    assert report["frames_done"] == list(range(COUNT))
    assert report["objects"][0]["frames_found"] == list(range(COUNT))
    assert report["objects"][0]["area_px"] == [min(a := [int(m[0].sum()) for m in track_desk.truth]), max(a)]


def test_only_the_named_object_is_followed(track_desk) -> None:
    assert main(track_desk.words("--object", "2")) == 0
    # Its value in the support's mask is 2, and stays.
    np.testing.assert_array_equal(read_frames(track_desk.output), [2 * masks[1] for masks in track_desk.truth])


@pytest.mark.parametrize("name", ["found.seg.nrrd", "found.nii.gz", "masks"])
def test_masks_go_into_the_kind_of_file_that_is_named(track_desk, name) -> None:
    output = track_desk.folder / name
    assert main(track_desk.words(output=output)) == 0
    np.testing.assert_array_equal(read_frames(output), [labels_of(masks) for masks in track_desk.truth])


def test_the_overlay_shows_every_frame_with_contours(track_desk) -> None:
    assert main(track_desk.all_words()) == 0
    with Image.open(track_desk.overlay) as picture:
        assert picture.n_frames == COUNT
        colours = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.ptp(colours, axis=-1) > 60).any()


def test_only_the_frames_that_were_asked_for_are_followed(track_desk) -> None:
    assert main(track_desk.words("--frames", "1:2,4", "--report", track_desk.report)) == 0
    np.testing.assert_array_equal(read_frames(track_desk.output), [labels_of(track_desk.truth[n]) for n in (1, 2, 4)])
    assert json.loads(track_desk.report.read_text("utf-8"))["frames_wanted"] == 3
    stacked = track_desk.folder / "stacked.seg.nrrd"  # slice n of it is frame n
    assert main(track_desk.words("--frames", "1:2,4", output=stacked)) == 0
    found = read_frames(stacked)
    assert len(found) == 5
    assert list(np.flatnonzero(found.any(axis=(1, 2)))) == [1, 2, 4]


def test_a_video_of_uneven_times_is_followed_and_the_table_has_the_times(track_desk, capsys) -> None:
    times = [0, 40, 80, 200, 240, 280]
    target = write_clip(track_desk.folder / "sweep.mp4", [a_frame(n)[0] for n in range(COUNT)], times)
    overlay = track_desk.folder / "look.mp4"
    words = track_desk.words("--table", track_desk.table, "--overlay", overlay, "--report", track_desk.report)
    words[words.index("--target") + 1] = str(target)
    assert main(words) == 0
    err = capsys.readouterr().err
    assert "frame rate of sweep.mp4 varies (0.04 to 0.12 s between frames)" in err
    assert err.count("\n") == 1  # grey frames in the colours of a video are not called colour
    assert [float(row["time_s"]) for row in rows_of(track_desk.table)[::2]] == pytest.approx([t / 1000 for t in times])
    found = read_frames(track_desk.output)
    assert min(dice(masks[0], frame == 1) for masks, frame in zip(track_desk.truth, found, strict=True)) > 0.95
    assert json.loads(track_desk.report.read_text("utf-8"))["inputs"]["target"]["times_s"]["longest_step"] == 0.12
    shown = open_frames(overlay)
    assert sum(1 for _ in shown) == COUNT
    assert shown.times_s[1] == pytest.approx(0.04, abs=1e-3)


def test_a_sequence_that_is_stored_upside_down_gets_its_masks_upside_down_and_in_millimetres(
    track_desk, capsys
) -> None:
    target = track_desk.folder / "sweep.seq.nrrd"
    lines = [
        "NRRD0004", "type: uint8", "dimension: 4", "space: left-posterior-superior", f"sizes: 64 64 1 {COUNT}",
        "space directions: (-0.5,0,0) (0,-0.5,0) (0,0,1) none", "kinds: domain domain domain list", "encoding: raw",
        "space origin: (0,0,0)", 'labels: "" "" "" "time"', 'units: "" "" "" "s"',
        f"axis 3 index values:={' '.join(str(0.1 * n) for n in range(COUNT))}",
    ]  # fmt: skip
    turned = np.stack([a_frame(n)[0][::-1, ::-1] for n in range(COUNT)])
    target.write_bytes(("\n".join(lines) + "\n\n").encode() + turned.tobytes())
    assert main(track_desk.words("--table", track_desk.table, target=target)) == 0
    assert "both are oriented alike" in capsys.readouterr().err
    found = read_frames(track_desk.output)
    np.testing.assert_array_equal(found, [labels_of(masks)[::-1, ::-1] for masks in track_desk.truth])
    rows = rows_of(track_desk.table)[::2]
    assert [float(row["time_s"]) for row in rows] == pytest.approx([0.1 * n for n in range(COUNT)])
    assert [float(row["area_mm2"]) for row in rows] == [int(masks[0].sum()) / 4 for masks in track_desk.truth]


def test_a_volume_is_followed_both_ways_on_exactly_its_grid_with_names_and_colours(tmp_path, following, capsys) -> None:
    support, marks = write_case(tmp_path, "old", a_case(1))
    target, _ = write_case(tmp_path, "new", truth := a_case(2))
    desk = TrackDesk(tmp_path, following)
    output = tmp_path / "found.seg.nrrd"
    assert main(desk.all_words(support=(support, marks), target=target, output=output)) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = read_segmentation(output)
    assert found.geometry.is_close(GRID, 1e-6)
    assert found.names == ["gland", "stone"]
    assert found.segments[0].terminology["type"] == TERMS["type"]
    for segment, own in zip(found.segments, truth[1].segments, strict=True):
        assert dice(own.mask, segment.mask) > 0.9  # neighbouring slices have a say
        assert segment.color_rgb == pytest.approx(COLORS[segment.name], abs=1e-5)
    report = json.loads(desk.report.read_text("utf-8"))
    assert report["inputs"]["target"]["kind"] == "volume"
    names = SliceNames(**report["inputs"]["target"]["slice_positions"])
    assert names == SliceNames.of(GRID, "k") and names.direction
    shown = report["objects"][0]["frames_found"]
    least = report["objects"][0]["lowest_confidence"][0]
    assert "6 slices done" in said.out
    assert f"gland: on {len(shown)} slices, {names.short(shown[0])} to {names.short(shown[-1])}" in said.out
    assert f"lowest confidence {least['confidence']:.2f} on {names.name(least['frame'])}" in said.out
    assert [s["slice"] for s in report["inputs"]["supports"][0]["slices"]] == [1, 2, 3, 4]
    rows = rows_of(desk.table)
    assert [int(row["frame"]) for row in rows[::2]] == list(range(6))
    assert float(rows[2]["confidence"]) < 0.75 < float(rows[4]["confidence"])  # slice 0 does not show the gland
    area = float(rows[4]["area_mm2"])
    assert area == pytest.approx(int(found.segments[0].mask[2].sum()) * 0.81, abs=1e-3)


def test_the_real_network_writes_what_the_tracker_predicts(tmp_path, sam2_checkpoint, monkeypatch) -> None:
    desk = TrackDesk(tmp_path, str(sam2_checkpoint))
    predictions = []
    step = tracker.Tracker.step

    def noted(self, *args, **options):
        predictions.append(step(self, *args, **options))
        return predictions[-1]

    monkeypatch.setattr(tracker.Tracker, "step", noted)
    # With random weights a mask is some of the frame at a threshold that lies between its probabilities.
    assert main(desk.words("--frames", "0:2", "--threshold", "0.2")) in DONE
    gated = predictions[0].probability[0] * predictions[0].presence[0]
    threshold = f"{np.median(gated):.9f}"
    predictions.clear()
    assert main(desk.all_words("--frames", "0:2", "--threshold", threshold, "--force", "--object", "1")) == 0
    expected = np.stack([prediction.masks(float(threshold))[0] for prediction in predictions])
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(read_frames(desk.output), expected)
    assert [int(row["area_px"]) for row in rows_of(desk.table)] == expected.sum(axis=(1, 2)).tolist()
    report = json.loads(desk.report.read_text("utf-8"))
    assert report["model"] == {
        "name": "random", "file": sam2_checkpoint.name, "sha256": checkpoints.sha256(sam2_checkpoint), "steps": None
    }  # fmt: skip
    assert report["objects"][0]["highest_presence"] == pytest.approx(
        max(float(p.presence[0]) for p in predictions), abs=1e-4
    )


# --- what the user is told -----------------------------------------------------------------------------------------


def test_frames_that_cannot_be_used_are_told_and_passed_over_and_the_rest_is_kept(track_desk, capsys) -> None:
    (track_desk.target / "frame_2.png").write_bytes(b"\x89PNG no longer")
    save(track_desk.target / "frame_4.png", a_frame(4, shape=(48, 80))[0])
    assert main(track_desk.all_words()) == 0
    said = capsys.readouterr()
    assert "2 frames of sweep were skipped: frame 2 (" in said.err
    assert "frame 4 (it has 80x48 pixels instead of 64x64)" in said.err
    assert "4 of 6 frames done; 2 skipped: 2 (" in said.out
    found = read_frames(track_desk.output)
    for n in range(COUNT):
        np.testing.assert_array_equal(found[n], labels_of(track_desk.truth[n]) * (n not in (2, 4)))
    rows = rows_of(track_desk.table)
    assert [row["state"] for row in rows[::2]] == ["ok", "ok", "bad", "ok", "bad", "ok"]
    # The double is the less sure the later a frame is: the time of what was passed over has passed.
    assert [row["confidence"] for row in rows[::2] if row["state"] == "ok"] == ["0.8978", "0.8878", "0.8678", "0.8479"]
    assert "80x48" in rows[8]["note"]
    assert rows[8]["area_px"] == ""
    report = json.loads(track_desk.report.read_text("utf-8"))
    assert [entry["frame"] for entry in report["frames_skipped"]] == [2, 4]
    assert report["frames_done"] == [0, 1, 3, 5]
    assert report["state"] == "complete"
    assert any("skipped" in note for note in report["notes"])


def test_a_damaged_frame_in_the_middle_of_a_video_is_passed_over(track_desk, capsys) -> None:
    av = pytest.importorskip("av")
    target = track_desk.folder / "sweep.avi"
    write_clip(track_desk.folder / "whole.avi", [a_frame(n)[0] for n in range(COUNT)])
    with av.open(str(track_desk.folder / "whole.avi")) as whole, av.open(str(target), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuvj420p"
        for n, frame in enumerate(whole.decode(video=0)):
            for packet in stream.encode(frame.reformat(format="yuvj420p")):
                if n == 3:
                    packet = av.Packet(b"\xff\xd8" + bytes(200))
                    packet.pts = packet.dts = n
                packet.stream = stream
                container.mux(packet)
    assert main(track_desk.all_words(target=target)) == 0
    assert "1 frame of sweep.avi was skipped: frame 3 (" in capsys.readouterr().err
    assert [row["state"] for row in rows_of(track_desk.table)[::2]] == ["ok", "ok", "ok", "bad", "ok", "ok"]
    found = read_frames(track_desk.output)
    assert not found[3].any()
    assert dice(track_desk.truth[5][0], found[5] == 1) > 0.9


def test_frames_on_which_support_and_memory_disagree_are_named(track_desk, model_double, capsys) -> None:
    model_double.backbone.drift = 0.12  # the memory leads to a brightness that neither object has
    assert main(track_desk.all_words("--object", "1")) == 0
    report = json.loads(track_desk.report.read_text("utf-8"))
    wrong = [entry["frame"] for entry in report["frames_disagreeing"]]
    assert wrong
    assert report["frames_disagreeing"][0]["objects"] == ["label 1"]
    assert report["objects"][0]["memory_dropped"] == wrong  # the support is sure there, so it alone speaks
    assert f"disagree on {len(wrong)} frames {ranges(wrong)}; review those first" in capsys.readouterr().out
    rows = {int(row["frame"]): row for row in rows_of(track_desk.table)}
    assert [frame for frame, row in rows.items() if row["state"] == "disagrees"] == wrong
    assert float(rows[wrong[0]]["agreement"]) < 0.25
    assert "memory was dropped" in rows[wrong[0]]["note"]


def test_without_memory_nothing_is_compared_and_frames_stand_alone(track_desk, model_double, capsys) -> None:
    model_double.backbone.drift = 0.12
    assert main(track_desk.words("--mode", "proxy_only")) == 0
    np.testing.assert_array_equal(read_frames(track_desk.output), [labels_of(masks) for masks in track_desk.truth])
    assert "disagree" not in capsys.readouterr().out


def test_an_object_that_is_nowhere_is_told(track_desk, capsys) -> None:
    for n in range(COUNT):
        picture, masks = a_frame(n)
        picture[masks[1] > 0] = 30
        save(track_desk.target / f"frame_{n}.png", picture)
    assert main(track_desk.words()) == 0
    said = capsys.readouterr()
    assert "'label 2' was not found on any frame" in said.err
    assert "label 2: not found" in said.out


def test_a_clip_without_any_object_is_written_and_has_an_exit_code_of_its_own(track_desk, capsys) -> None:
    for n in range(COUNT):
        picture, masks = a_frame(n)
        picture[masks.any(axis=0)] = 30
        save(track_desk.target / f"frame_{n}.png", picture)
    assert main(track_desk.words("--json")) == EXIT_NOTHING_FOUND
    said = capsys.readouterr()
    assert f"nothing was found: every segment of {track_desk.output} is empty (exit code 9)." in said.err
    report = json.loads(said.out)
    assert report["state"] == "complete" and report["nothing_found"]
    assert read_frames(track_desk.output).shape[0] == COUNT and not read_frames(track_desk.output).any()


def test_a_clip_that_resembles_no_support_is_reported(track_desk, monkeypatch, capsys) -> None:
    strict = Calibration(presence=dict.fromkeys(PRESENCE, 1.0), quality=dict.fromkeys(QUALITY, 1.0), unlike=1e-4)
    monkeypatch.setattr(loading, "calibration_of", lambda digest, metadata: strict)
    main(track_desk.words())
    err = capsys.readouterr().err
    assert "resembles the support" in err and "Choose a --support that shows the same organ" in err


def test_a_support_from_the_target_itself_is_told(track_desk, capsys) -> None:
    assert main(track_desk.words(support=(track_desk.target / "frame_1.png", track_desk.marks))) == 0
    assert "one of the target's own frames" in capsys.readouterr().err


def test_progress_counts_frames_and_has_no_bar_where_their_number_is_unknown(track_desk, capsys) -> None:
    assert main(track_desk.words("--progress")) == 0
    assert f"frame {COUNT} of {COUNT}" in capsys.readouterr().err
    target = write_clip(track_desk.folder / "sweep.mkv", [a_frame(n)[0] for n in range(COUNT)])
    assert open_frames(target).count is None
    assert main(track_desk.words("--progress", "--force", target=target)) == 0
    err = capsys.readouterr().err
    assert "tracking: frame" in err
    assert " of " not in err
    assert "[" not in err


def test_a_video_that_ends_before_the_frames_that_were_asked_for_is_told(track_desk, capsys) -> None:
    target = write_clip(track_desk.folder / "sweep.mp4", [a_frame(n)[0] for n in range(COUNT)])
    assert main(track_desk.words("--frames", "4:9", target=target)) == 0
    assert "ends with frame 5, before the last requested one" in capsys.readouterr().err
    assert main(track_desk.all_words("--frames", "40:", "--force", target=target)) == 2
    assert "ends after 6 frames" in capsys.readouterr().err
    assert not track_desk.table.exists()


# --- parts ---------------------------------------------------------------------------------------------------------


def test_the_window_is_that_of_the_first_frame_unless_it_shows_nothing(track_desk) -> None:
    source = open_frames(track_desk.target)
    assert first_window(source.frame(0), source) == pytest.approx((20, 255))
    assert first_window(np.zeros((64, 64), np.uint8), source) == (0, 255)
    dark = np.random.default_rng(0).integers(0, 20, (64, 64)).astype(np.uint8)
    assert first_window(dark, source) == (0, 255)


def test_later_frames_change_nothing_of_earlier_ones(track_desk, sam2_checkpoint) -> None:
    words = track_desk.words("--table", track_desk.table, "--object", "1", "--force", model=sam2_checkpoint)
    assert main([*words, "--frames", "0:1"]) in DONE
    first = rows_of(track_desk.table)
    save(track_desk.target / "frame_2.png", 255 - a_frame(2)[0])
    assert main([*words, "--frames", "0:2"]) in DONE
    assert rows_of(track_desk.table)[:2] == first


def test_a_choice_of_frames_holds_them_whatever_their_number() -> None:
    choice = FrameChoice.parse("2:3,7:", "--frames")
    assert [n for n in range(10) if n in choice] == [2, 3, 7, 8, 9]
    assert (choice.last, choice.total(None), choice.total(9)) == (None, None, 4)
    closed = FrameChoice.parse("5,2:3", "--frames")
    assert (closed.last, closed.total(None), closed.total(4)) == (5, 3, 2)
    assert FrameChoice.parse(None, "--frames").total(4) == 4
    closed.check(6, "sweep")
    with pytest.raises(UsageError, match="no frame 5"):
        closed.check(5, "sweep")
