"""Measurements of tracking: nothing looks ahead, and every row is what it gives by hand."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

from drawn_data import DataFolder, carotid_sweep
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.splits import read_split
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation import tracking
from ProxyPromptSegmentLib.evaluation import tracking_volumes as volumewise
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.evaluation.tracking import SWEEPS
from ProxyPromptSegmentLib.evaluation.tracking_table import FRAMES, TrackTable
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.results import SegmentResult
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.tracking.tracker import FramePrediction, Tracker
from sweep_cases import FOREIGN, POOL, SIDE, disc, sweep

# --- the draws -----------------------------------------------------------------------------------------------------


def test_support_frames_differ_take_the_sweeps_in_turn_and_can_be_drawn_again():
    drawn = tracking.draw_frames(POOL, 5, 0)
    words = [(case.name, index) for case, index in drawn]
    assert len(set(words)) == 5
    assert [name for name, _ in words][:4] in (["a", "bb"] * 2, ["bb", "a"] * 2)
    assert words == [(case.name, index) for case, index in tracking.draw_frames(POOL, 5, 0)]
    assert any(words != [(c.name, i) for c, i in tracking.draw_frames(POOL, 5, seed)] for seed in range(1, 4))


def test_only_frames_that_show_every_object_are_drawn():
    two = sweep("two", [1, 2, 3], objects=2)
    masks = two.masks.copy()
    masks[0, 1] = masks[2] = 0
    drawn = tracking.draw_frames([replace(two, masks=masks)], 1, 0)
    assert [index for _, index in drawn] == [1]
    with pytest.raises(UsageError, match="2 different support frames were requested, but there are 1"):
        tracking.draw_frames([replace(two, masks=masks)], 2, 0)


def test_several_support_frames_are_of_different_sweeps():
    for seed in range(5):
        first = tracking.draw_frames(POOL, 1, seed)[0]
        joined = tracking.join_frames(first, POOL, 4, seed)
        assert joined[0] == first
        assert {case.name for case, _ in joined} == {"a", "bb"} and len(joined) == 2
        assert tracking.join_frames(first, POOL, 1, seed) == [first]


# --- following, with a tracker that is known ------------------------------------------------------------------------


class KnownTracker:
    """With prompt and memory it finds the bar, unless nothing is marked; alone it finds half of it; without a prompt
    it repeats what it was given."""

    made: list[KnownTracker] = []

    def __init__(self, segmenter: Segmenter, mode: str) -> None:
        self.mode, self.seen, self.given = mode, [], None
        KnownTracker.made.append(self)

    def start(self, support, window, spacing_mm) -> None:
        self.support, self.window = support, window

    def anchor(self, image, masks, window, spacing_mm) -> None:
        self.given, self.given_window = masks, window

    def step(self, image, index, encoded):
        self.seen.append((index, encoded))
        mask = (image > 60).astype(np.float32)[None]
        if self.mode == "bank_only":
            mask[:, : self.given.shape[1]] = self.given
        elif self.mode == "proxy_only":
            mask[:, SIDE // 2 :] = 0
        elif not self.support.occupancy.any():
            mask[:] = 0
        ones = np.ones(1, np.float32)
        return FramePrediction(
            index=index, probability=mask, presence=ones, quality=ones, agreement=ones, disagrees=np.array([index == 1])
        )


@pytest.fixture(scope="module")
def followed(segmenter):
    """The table of two sweeps, the trackers that were made, how many slices were embedded at a time, and the sweeps."""
    calls, encode = [], segmenter.encode

    def counting(images, *rest):
        calls.append(len(images))
        return encode(images, *rest)

    KnownTracker.made.clear()
    targets = [sweep("target1", [0, 2, 4, 6]), sweep("target2", [3, 3])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter, "encode", counting)
        table = tracking.follow_sweeps(segmenter, targets, POOL, FOREIGN, 5, 4, make_tracker=KnownTracker)
    return table, list(KnownTracker.made), calls, targets


def test_every_row_is_there_with_the_scores_that_must_come_out(followed):
    table, _, _, targets = followed
    rows = {row["method"]: row for row in table.rows()}
    several = f"{tracking.FOLLOWED}, 2 supports"
    assert set(rows) == {
        tracking.COPIED, tracking.FOLLOWED, tracking.EMPTIED, tracking.FUNDUS, several, tracking.ALONE,
        tracking.TEMPLATE, tracking.BLANK_TEMPLATE, tracking.OWN_FIRST,
    }  # fmt: skip
    assert rows[tracking.FOLLOWED]["dice"] == rows[several]["dice"] == 1
    assert rows[tracking.FOLLOWED]["sd_over_supports"] == 0
    assert rows[tracking.EMPTIED]["dice"] == rows[tracking.BLANK_TEMPLATE]["dice"] == 0
    assert rows[tracking.ALONE]["dice"] == pytest.approx(2 / 3, abs=1e-4)
    offsets = {f"{case.name}:{i}": int(case.masks[i, 0, 0].argmax()) for case in POOL for i in range(3)}

    def overlap(offset: int) -> float:
        by_target = [np.mean([max(0, 10 - abs(o - offset)) / 10 for o in line]) for line in ([0, 2, 4, 6], [3, 3])]
        return float(np.mean(by_target))

    expected = [overlap(offsets[table.drawn[f"S{n}"][0]]) for n in range(1, 6)]
    for method in (tracking.COPIED, tracking.TEMPLATE):  # this tracker repeats its template
        assert rows[method]["per_support"] == pytest.approx(expected, abs=1e-4)
        assert rows[method]["sd_over_supports"] == pytest.approx(statistics.stdev(expected), abs=1e-4)
        assert rows[method]["max_minus_min"] == pytest.approx(max(expected) - min(expected), abs=1e-4)
    assert rows[tracking.OWN_FIRST]["per_target"] == pytest.approx([0.7, 1.0])


def test_disagreements_are_counted_where_there_is_prompt_and_memory_only(followed):
    rows = {row["method"]: row for row in followed[0].rows()}
    assert rows[tracking.FOLLOWED]["disagreements"] == 2  # one frame of each target
    for method in (tracking.COPIED, tracking.ALONE, tracking.TEMPLATE, tracking.OWN_FIRST):
        assert rows[method]["disagreements"] is None


def test_each_frame_is_embedded_once_and_followed_in_order_with_the_first_frames_window(followed):
    _, made, calls, targets = followed
    assert calls == [4, 2]
    for tracker in made:
        case = next(case for case in targets if len(case.images) == len(tracker.seen))
        assert [index for index, _ in tracker.seen] == list(range(len(case.images)))
        assert tracker.window == intensity_window(case.images[:1])
        if tracker.given is not None and tracker.given.any():  # a template is shown with its own sweep's window
            sources = [pool for pool in POOL for mask in pool.masks if np.array_equal(mask, tracker.given)]
            own = [tracker.window] if np.array_equal(tracker.given, case.masks[0]) else []
            assert tracker.given_window in own + [intensity_window(source.images) for source in sources]
    first = made[0].seen[0][1].features.top
    again = made[1].seen[0][1].features.top
    assert first.data_ptr() == again.data_ptr()


def test_every_target_is_prompted_by_the_same_five_frames(followed):
    table, made, _, _ = followed
    prompts = {
        length: [id(t.support) for t in made if len(t.seen) == length and t.mode == "proxy+bank"] for length in (4, 2)
    }
    assert prompts[4] == prompts[2] and len(set(prompts[4])) == 20
    assert len({table.drawn[f"S{n}"][0] for n in range(1, 6)}) == 5


def test_the_table_is_plain_json_and_markdown(followed):
    table = followed[0]
    back = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert back["protocol"] == "track" and back["part"] == "test"
    assert np.shape(back["scores"][tracking.FOLLOWED]["vessel"]) == (5, 2)
    lines = table.to_markdown().splitlines()
    widths = {line.count("|") for line in lines if tracking.FOLLOWED + " |" in line}
    assert widths == {9, 8}  # the scores, and those of S1 to S5


def test_a_row_that_some_target_cannot_have_is_left_out(segmenter):
    late = sweep("late", [2, 2])
    late.masks[0] = 0
    wide = Case(
        dataset="ccaus_video",
        patient="wide",
        images=np.zeros((2, 30, SIDE), np.float32),
        masks=np.ones((2, 1, 30, SIDE), np.uint8),
        objects=("vessel",),
        spacing_mm=None,
        name="wide",
    )
    wide.images[:, 15:] = 100
    table = tracking.follow_sweeps(segmenter, [late, wide], POOL, FOREIGN, 1, 1, make_tracker=KnownTracker)
    assert set(table.scores) == {
        tracking.FOLLOWED, tracking.EMPTIED, tracking.FUNDUS, tracking.ALONE, tracking.TEMPLATE, tracking.BLANK_TEMPLATE
    }  # fmt: skip


# --- following, with the real one -----------------------------------------------------------------------------------


def test_the_real_tracker_gives_each_row_what_it_gives_by_hand(segmenter):
    target = sweep("target", [2, 4, 6])
    table = tracking.follow_sweeps(segmenter, [target], POOL, FOREIGN, 1, 1, seed=2)
    ((case, index),) = tracking.draw_frames(POOL, 1, 2)
    pair = pair_of(case, index)
    window = intensity_window(target.images[:1])
    tracker = Tracker(segmenter, "bank_only")
    tracker.start(None, window)
    tracker.anchor(pair.image, pair.masks, pair.window)
    by_hand = TrackTable(dataset="ccaus_video", part="test", unit=FRAMES, supports=1, draws=1, targets=["target"])
    by_hand.note(tracking.TEMPLATE, target, np.stack([tracker.step(image).masks() for image in target.images]), 0, 0)
    assert table.scores[tracking.TEMPLATE]["vessel"] == by_hand.scores[tracking.TEMPLATE]["vessel"]
    assert set(table.scores) >= {tracking.FOLLOWED, tracking.ALONE, tracking.EMPTIED, tracking.FUNDUS}


def test_volumes_are_followed_beside_another_model_and_with_neighbours_or_without(segmenter):
    volumes = [sweep(f"case{n}", [1, 2, 3, 4], "promise12") for n in range(2)]
    told, beside = [], {"other": segmenter}
    table = volumewise.follow_volumes(
        segmenter,
        volumes[:1],
        volumes[1:],
        FOREIGN,
        1,
        1,
        on_target=lambda *n: told.append(n),
        beside=beside,
    )
    rows = {row["method"]: row for row in table.rows()}
    for method in (volumewise.BOTH_WAYS, volumewise.SLICES, "other, slice by slice", tracking.EMPTIED, tracking.FUNDUS):
        assert {method, method + volumewise.SMOOTHED} <= set(rows)
    # The same weights beside themselves.
    assert rows["other, slice by slice"]["per_target"] == rows[volumewise.SLICES]["per_target"]
    assert rows[volumewise.MEAN]["dice"] > 0.5
    assert rows[volumewise.BOTH_WAYS]["disagreements"] is not None and rows[volumewise.SLICES]["disagreements"] is None
    assert told == [(1, 1)]
    assert len(table.drawn["case0"]) == 1


def test_a_slice_that_its_neighbours_fill_in_falls_out_only_where_each_slice_stands_alone(segmenter, monkeypatch):
    volume = sweep("case", [3, 3, 3, 3, 3], "promise12")
    probability = volume.masks * np.float32(0.9)
    probability[2] = 0.4 * volume.masks[2]
    ones = np.ones((5, 1), np.float32)
    result = SegmentResult(
        objects=("vessel",), probability=probability, presence=ones, quality=ones, done=np.ones(5, bool)
    )
    monkeypatch.setattr(volumewise, "_segmented", lambda *_: [("m", result, None)])
    table = volumewise.follow_volumes(segmenter, [volume], POOL, FOREIGN, 1, 1)
    rows = {row["method"]: row for row in table.rows()}
    assert (rows["m"]["falling_out"], rows["m"]["dice"]) == (1, pytest.approx(8 / 9, abs=1e-4))
    assert (rows["m" + volumewise.SMOOTHED]["falling_out"], rows["m" + volumewise.SMOOTHED]["dice"]) == (0, 1)


@pytest.fixture
def few_frames(tmp_path, monkeypatch):
    """Drawn sweeps of three frames that are called as the public ones, and discs instead of the fundus pictures."""
    folder = DataFolder(tmp_path / "data")
    for seed, name in enumerate(sorted(sum(read_split("ccaus_video").values(), []))):
        for n, frame in enumerate(carotid_sweep(seed, 3, 64)):
            folder.add_picture("ccaus_video", f"{name}_{15 * n:05d}", frame, patient=name)
    load = tracking.load_dataset
    discs = [disc(n) for n in range(40)]
    monkeypatch.setattr(tracking, "load_dataset", lambda root, name: load(root, name) if name in SWEEPS else discs)
    return folder.path


def test_the_sweeps_of_a_folder_of_data_are_followed(segmenter, few_frames):
    told = []
    table = tracking.run_tracking(
        segmenter, few_frames, "ccaus_video", 3, 1, part="validation", on_target=lambda *n: told.append(n)
    )
    assert table.targets == read_split("ccaus_video")["validation"] and told == [(1, 1)]
    assert f"{tracking.FOLLOWED}, 3 supports" in table.scores
    sources = {one.split(":")[0] for words in table.drawn.values() for one in words}
    assert sources == set(read_split("ccaus_video")["train"])


def test_what_cannot_be_followed_is_refused(segmenter, few_frames):
    with pytest.raises(UsageError, match="a second model is compared on volumes"):
        tracking.run_tracking(segmenter, few_frames, "ccaus_video", beside={"x": segmenter})
    with pytest.raises(UsageError, match="no sweeps or volumes to track"):
        tracking.run_tracking(segmenter, few_frames, "drishti_gs")
    with pytest.raises(UsageError, match="choose test or validation"):
        tracking.run_tracking(segmenter, few_frames, "ccaus_video", part="train")
