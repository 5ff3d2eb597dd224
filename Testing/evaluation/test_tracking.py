"""The tables of tracking: the paper's figures come out of them, nothing looks ahead, and wrong models are refused."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

pytest.importorskip("sam2")

from drawn_data import DataFolder, carotid_sweep
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.splits import read_split
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation import tracking, tracking_memory, tracking_speed
from ProxyPromptSegmentLib.evaluation import tracking_volumes as volumewise
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.evaluation.tracking import SWEEPS
from ProxyPromptSegmentLib.evaluation.tracking_table import ALL_OBJECTS, FRAMES, VOLUMES, TrackTable
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.results import SegmentResult
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.protocols import FrameMemory
from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank
from ProxyPromptSegmentLib.tracking.tracker import FramePrediction, Tracker

SIDE = 20


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(3)
    return Segmenter(build_model("sam2-compact"), "cpu")


def sweep(name: str, offsets: list[int], dataset: str = "ccaus_video", objects: int = 1) -> Case:
    """Frames with a bright bar of ten columns that begins at the offset; the other object is the bar's upper half."""
    masks = np.zeros((len(offsets), objects, SIDE, SIDE), np.uint8)
    for index, offset in enumerate(offsets):
        masks[index, 0, :, offset : offset + 10] = 1
        if objects > 1:
            masks[index, 1, : SIDE // 2, offset : offset + 10] = 1
    images = np.random.default_rng(len(name)).uniform(0, 20, (len(offsets), SIDE, SIDE)) + 100 * masks[:, 0]
    names = ("vessel", "upper half")[:objects]
    return Case(
        dataset=dataset,
        patient=name,
        images=images.astype(np.float32),
        masks=masks,
        objects=names,
        spacing_mm=None,
        name=name,
    )


def disc(number: int) -> Case:
    y, x = np.mgrid[:SIDE, :SIDE]
    masks = np.stack([(y - 10) ** 2 + (x - 10) ** 2 < r**2 for r in (8, 4)]).astype(np.uint8)[None]
    images = np.repeat(masks.sum(axis=1)[..., None] * 60.0 + number, 3, axis=-1).astype(np.float32)
    return Case(
        dataset="drishti_gs",
        patient=f"disc{number}",
        images=images,
        masks=masks,
        objects=("optic disc", "optic cup"),
        spacing_mm=None,
        name=f"disc{number}",
    )


POOL = [sweep("a", [0, 1, 2]), sweep("bb", [5, 6, 7])]
FOREIGN = [disc(n) for n in range(6)]


# --- the arithmetic ------------------------------------------------------------------------------------------------


def test_the_papers_standard_deviations_come_out_of_its_own_figures():
    """Tables 10 and 11 give table 3's 0.3 and 10.9: the sample SD of the objects' mean over five support pairs."""
    table = TrackTable(dataset="jnu_ifm", part="test", unit=FRAMES, supports=1, draws=5, targets=["all"])
    table.scores = {
        "ours": {
            "pubic symphysis": np.array([[0.779], [0.780], [0.778], [0.781], [0.780]]),
            "fetal head": np.array([[0.834], [0.845], [0.835], [0.833], [0.840]]),
        },
        "MedSAM 2": {
            "pubic symphysis": np.array([[0.508], [0.779], [0.674], [0.609], [0.562]]),
            "fetal head": np.array([[0.529], [0.842], [0.566], [0.548], [0.715]]),
        },
    }
    rows = {(row["method"], row["object"]): row for row in table.rows()}
    ours, theirs = rows["ours", ALL_OBJECTS], rows["MedSAM 2", ALL_OBJECTS]
    assert ours["sd_over_supports"] == pytest.approx(0.0027, abs=1e-4)
    assert theirs["sd_over_supports"] == pytest.approx(0.1093, abs=1e-4)
    assert ours["max_minus_min"] == pytest.approx(0.006, abs=1e-4)
    assert rows["ours", "fetal head"]["dice"] == pytest.approx(0.8374)
    assert "| ours | mean of the objects | 0.808 | 0.3 | 0.6 |" in table.to_markdown()
    assert "| 10.9 | 29.2 |" in table.to_markdown()


def test_a_sweep_counts_once_however_long_it_is_and_a_frame_once_however_large():
    long, short = sweep("long", [0, 0, 0, 0]), sweep("short", [0, 5])
    table = TrackTable(dataset="ccaus_video", part="test", unit=FRAMES, supports=1, draws=1, targets=["long", "short"])
    wrong = long.masks.copy()
    wrong[1] = 0
    table.note("m", long, wrong, 0, 0, disagreements=2)
    small = short.masks.copy()
    small[1, :, 2:] = 0  # Dice of 2 rows within 20
    table.note("m", short, small, 0, 1, disagreements=0)
    (row,) = table.rows()
    assert row["per_target"] == [0.75, pytest.approx((1 + 2 * 2 / 22) / 2, abs=1e-4)]
    assert row["dice"] == pytest.approx(np.mean(row["per_target"]), abs=1e-4)
    assert row["falling_out"] == 1
    assert row["disagreements"] == 2
    assert row["sd_over_supports"] is None and row["max_minus_min"] is None


def test_a_volumes_dice_is_that_of_all_its_voxels():
    volume = sweep("case", [0, 5, 5], "promise12")
    table = TrackTable(dataset="promise12", part="test", unit=VOLUMES, supports=4, draws=1, targets=["case"])
    predicted = volume.masks.copy()
    predicted[0] = 0
    table.note("m", volume, predicted, 0, 0)
    (row,) = table.rows()
    assert row["dice"] == pytest.approx(2 * 400 / (400 + 600), abs=1e-4)
    assert "volume Dice" in table.to_markdown() and "S1" not in table.to_markdown()


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


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model_file(tmp_path, monkeypatch, segmenter):
    """A checkpoint by name, and what stands for the model that it holds."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"not read")
    models = {"model": segmenter.model}
    monkeypatch.setattr(checkpoints, "load_model", lambda *_: (models["model"], {"name": "m", "steps": 5}))
    return path, models


def test_a_model_without_memory_is_refused_in_one_sentence(model_file, tmp_path, capsys):
    path, models = model_file
    models["model"] = build_model("sam-compact")
    words = ["evaluate", "ccaus_video", "--data", str(tmp_path), "--model", str(path), "--protocol", "track"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "sam-compact has no memory" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--beside", "sam-compact"], "--protocol track"),
        (["--protocol", "track", "--unet", "u.safetensors"], "--unet"),
        (["--draws", "0"], "--draws is 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(more, told, model_file, tmp_path, capsys):
    assert main(["evaluate", "promise12", "--data", str(tmp_path), "--model", str(model_file[0]), *more]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_the_command_writes_the_table_as_json_and_markdown(model_file, tmp_path, monkeypatch, capsys):
    table = TrackTable(dataset="ccaus_video", part="validation", unit=FRAMES, supports=1, draws=2, targets=["one"])
    case = sweep("one", [1, 2, 3])
    for draw in range(2):
        table.note("m", case, case.masks, draw, 0)
    asked = []
    monkeypatch.setattr(tracking, "run_tracking", lambda *words: asked.append(words) or table)
    words = ["evaluate", "ccaus_video", "--data", str(tmp_path), "--model", str(model_file[0]), "--protocol", "track"]
    assert main([*words, "--draws", "2", "--part", "validation", "--out", str(tmp_path / "out" / "t")]) == 0
    written = json.loads((tmp_path / "out" / "t.json").read_text("utf-8"))
    assert (written["model"], written["steps"], written["protocol"]) == ("m", 5, "track")
    assert (tmp_path / "out" / "t.md").read_text("utf-8") in capsys.readouterr().out
    assert asked[0][1:7] == (tmp_path, "ccaus_video", 4, 2, 0, "validation")


# --- speed and memory ----------------------------------------------------------------------------------------------


def test_the_speed_of_a_short_sweep_has_every_field(segmenter):
    result = tracking_speed.measure_tracking_speed(segmenter, 3, 1, 6, 2, 40)
    json.dumps(result, allow_nan=False)
    for clock in (result, result["processor_time"]):
        assert clock["ours_over_sam2"] > 0 and clock["ours_unchecked_over_sam2"] > 0
    assert all(rate > 0 for rate in result["frames_per_second"].values()) and len(result["frames_per_second"]) == 3
    memory = result["memory"]
    assert memory["looks_at"] == [2, 4, 6]
    assert memory["bank_bytes"]["last"] >= memory["bank_bytes"]["first"] > 0
    if memory["resident_mib"] is not None:
        assert len(memory["resident_mib"]["values"]) == 3
        assert memory["resident_mib"]["peak"] >= memory["resident_mib"]["last"]


def test_the_package_propagates_with_our_weights_what_our_memory_alone_predicts():
    """The two that are timed do the same work: the same frames, options and weights give the same probabilities.

    Ours is made to round its memories as the package stores them. The first mask is the whole frame, because the
    package takes a given mask through the decoder's coarse grid before it remembers it; the sweep is no shorter than
    the pointers reach, because the package measures their age by the sweep's length.
    """
    torch.manual_seed(3)
    model = build_model("sam2-compact")
    with torch.no_grad():  # at random weights the memory would say next to nothing
        for layer in model.backbone.sam2.memory_attention.layers:
            layer.cross_attn_image.v_proj.weight *= 10
        model.backbone.sam2.sam_mask_decoder.output_hypernetworks_mlps[0].layers[-1].weight *= 10

    def rounding(remember):
        def rounded(*words):
            memory = remember(*words)
            return replace(memory, spatial=memory.spatial.bfloat16().float())

        return rounded

    ours = Segmenter(model, "cpu")
    frames = [tracking_memory.sweep_frame(n, 128) for n in range(16)]
    images = np.stack([image for image, _ in frames])
    package = tracking_speed.PackagePropagation(ours, 16, 128)
    model.backbone.remember = rounding(model.backbone.remember)
    model.backbone.remember_mask = rounding(model.backbone.remember_mask)
    whole = np.ones_like(frames[0][1])
    tracker = Tracker(ours, "bank_only")
    tracker.start(None, tracking_memory.WINDOW)
    tracker.anchor(images[0], whole)
    expected = np.stack([tracker.step(image).probability for image in images[1:]])
    for first, same in ((whole, True), (frames[0][1], False), (whole, True)):
        logits = package.propagate(images, first)  # every run starts afresh
        found = torch.sigmoid(torch.stack(logits[1:])).numpy()
        assert found.shape == expected.shape and (np.abs(found - expected).max() < 1e-5) == same


def test_the_package_answers_with_masks_of_the_frames_size(segmenter):
    image, mask = tracking_memory.sweep_frame(0, 40)
    package = tracking_speed.PackagePropagation(segmenter, 2, 40)
    masks = package.run(np.stack([image, image]), mask)
    assert [one.shape for one in masks] == [(1, 40, 40)] * 2
    assert (masks[0] == mask).mean() > 0.97


def test_the_package_reads_the_weights_and_leaves_ours_alone(segmenter):
    before = type(segmenter.model.backbone.sam2)
    predictor = tracking_speed.PackagePropagation(segmenter, 2, 32).predictor
    assert type(segmenter.model.backbone.sam2) is before and type(predictor) is not before
    own = segmenter.model.backbone.sam2.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in predictor.state_dict().items())


def test_a_banks_bytes_are_those_of_whole_storages_each_counted_once():
    class Holder:
        pass

    bank = MemoryBank()
    whole = torch.zeros(10, 4)  # 160 bytes
    bank.add(FrameMemory(frame=0, spatial=whole[:1], pointer=torch.zeros(2)))  # a view holds all of it
    bank.add(FrameMemory(frame=1, spatial=whole[1:], pointer=torch.zeros(2)))
    holder = Holder()
    holder.banks, holder.again, holder.other = (bank,), {"same": bank}, torch.zeros(1000)
    assert tracking_memory.bank_bytes(holder) == 160 + 2 * 8


def test_the_slope_of_memory_is_per_hundred_frames():
    course = tracking_memory._course([50, 100, 150], [10.0, 12.0, 14.0])
    assert (course["first"], course["last"], course["peak"]) == (10, 14, 14)
    assert course["slope_per_100_frames"] == pytest.approx(4)
    assert tracking_memory._course([50, 100], [None, None]) is None
    assert tracking_memory._course([50], [3.0])["slope_per_100_frames"] is None


def test_a_ratio_is_the_median_of_the_rounds_and_above_one_where_we_are_faster():
    theirs, ours = np.array([[4.0, 2.0], [6.0, 2.0], [1.0, 2.0]]), np.array([[2.0, 4.0]] * 3)
    assert tracking_speed._ratios(theirs, ours) == [2.0, 0.5]
    assert tracking_speed._rate(10, theirs) == 2.5


def test_a_drawn_sweep_moves_slowly_and_its_frames_do_not_depend_on_each_other():
    masks = [tracking_memory.sweep_frame(n, 64)[1] for n in range(4)]
    for one, other in zip(masks, masks[1:], strict=False):
        assert 0.7 < 2 * (one & other).sum() / (one.sum() + other.sum()) < 1
    assert np.array_equal(tracking_memory.sweep_frame(3, 64)[0], tracking_memory.sweep_frame(3, 64)[0])
