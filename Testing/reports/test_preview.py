"""The picture of a result: contours where the masks end, proportions, and what is shown when nothing was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from PIL import Image

from command_cases import InContextModel, a_case
from plain_run import run
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.drawing import bright, heat
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.reports import preview
from ProxyPromptSegmentLib.reports.preview import (
    choose_slices,
    contour,
    draw_preview,
    tile_size,
    write_preview,
)
from ProxyPromptSegmentLib.support.case import SupportCase


def a_result(target_objects=("gland", "stone"), cancel=None):
    target, truth = a_case(2, objects=target_objects)
    job = plan([SupportCase(*a_case(1))], target)
    outcome = run(Segmenter(InContextModel(), "cpu", batch=1), job, cancel=cancel)
    return job, outcome, truth


def pixels(picture, color) -> int:
    return int((np.asarray(picture) == np.array(color)).all(axis=-1).sum())


def test_the_contour_is_the_inner_border_of_the_mask() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2:8, 2:8] = 1
    line = contour(mask, (10, 10), width=1)
    expected = mask.astype(bool)
    expected[3:7, 3:7] = False
    np.testing.assert_array_equal(line, expected)


def test_a_contour_at_the_edge_of_the_slice_and_of_a_single_pixel_is_seen() -> None:
    assert contour(np.ones((8, 8), np.uint8), (8, 8), 1).sum() == 28
    dot = np.zeros((200, 200), np.uint8)
    dot[100, 100] = 1
    assert contour(dot, (50, 50)).any()
    assert not contour(np.zeros((8, 8), np.uint8), (16, 16)).any()


def test_tiles_keep_the_physical_proportions() -> None:
    assert tile_size((100, 50), (1.0, 1.0), 200) == (200, 100)
    assert tile_size((20, 100), (5.0, 1.0), 200) == (200, 200)


def test_every_colour_is_bright_enough_to_be_seen_on_grey() -> None:
    assert max(bright((0.1, 0.05, 0.02))) == 255
    assert bright((0, 0, 0)) == (255, 255, 0)


def test_more_probability_is_a_brighter_colour() -> None:
    levels = heat(np.linspace(0, 1, 21, dtype=np.float32)[None]).astype(int).sum(axis=-1)[0]
    assert (np.diff(levels) > 0).all()


def test_shown_slices_are_spread_over_those_on_which_something_was_found() -> None:
    masks = np.zeros((30, 1, 4, 4), np.uint8)
    masks[10:20] = 1
    done = np.ones(30, bool)
    assert choose_slices(masks, done, 4) == [10, 13, 16, 19]
    assert choose_slices(masks * 0, done, 3) == [0, 14, 29]
    assert choose_slices(masks * 0, ~done) == []


def test_the_picture_shows_the_objects_in_their_colours_and_the_truth_in_white() -> None:
    job, outcome, truth = a_result()
    colors = [bright(color) for color in job.support.colors]
    plain = draw_preview(job, outcome)
    assert all(pixels(plain, color) > 500 for color in colors)
    far = [np.roll(segment.mask, 20, axis=2) for segment in truth.segments]  # under no other contour
    assert pixels(draw_preview(job, outcome, np.stack(far)), (255, 255, 255)) > pixels(plain, (255, 255, 255)) + 500


def test_support_slices_are_captioned_with_index_position_and_case(monkeypatch) -> None:
    job, outcome, _ = a_result()
    rows = []
    monkeypatch.setattr(preview._Sheet, "tiles", lambda _, pictures, captions: rows.append(captions))
    draw_preview(job, outcome)
    names = SliceNames.of(job.target.geometry, "k")
    assert names.direction
    assert rows[0] == [f"{names.name(one.index)}, {one.name}" for one in job.shown]
    assert replace(job.shown[0], index=None).title == job.shown[0].name


def test_a_result_without_anything_found_and_one_without_any_slice_are_drawn_too() -> None:
    assert draw_preview(*a_result(())[:2]).height > 300
    stopped = CancelToken()
    stopped.cancel()
    short = draw_preview(*a_result(cancel=stopped)[:2])
    assert short.height < draw_preview(*a_result()[:2]).height


def test_the_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    job, outcome, _ = a_result()
    write_preview(tmp_path / "p.png", job, outcome, model="sam-compact")
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size[0] > 600

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(OutputError, match="No space left"):
        write_preview(tmp_path / "q.png", job, outcome)
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
