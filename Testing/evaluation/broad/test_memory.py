"""What the memory adds, on drawn data with networks whose memory is known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from broad_cases import BroadFolder, spots
from engine_doubles import EchoModel
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation import made_clips as made
from ProxyPromptSegmentLib.evaluation.broad import memory
from ProxyPromptSegmentLib.evaluation.broad.records import Record, ScoreFile, Scores
from ProxyPromptSegmentLib.evaluation.broad.rows import ALL_SETS, EACH_OBJECT, rows_of
from ProxyPromptSegmentLib.evaluation.broad.run import Plan, measure
from ProxyPromptSegmentLib.evaluation.broad.table import to_markdown
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from tracking_doubles import tiny_sam2

FACTS = {"model": "made", "part": "test"}


@pytest.fixture
def folder(tmp_path) -> BroadFolder:
    made_folder = BroadFolder(tmp_path / "data")
    for n in range(6):
        picture = spots((200, 120), n)
        made_folder.add_picture("toy", f"i{n}", picture, "1 cell; 2 core", "test" if n > 4 else "train")
    return made_folder


def test_every_clip_is_followed_with_and_without_the_memory_from_fixed_seeds(folder):
    plan = Plan(data=folder.path, part="test", measures=["memory"], sets=["toy"], supports=(1,))
    found = []
    for _ in range(2):
        file = ScoreFile(None, FACTS)
        measure(Segmenter(tiny_sam2(), "cpu"), plan, file)
        found.append(file.scores.records)
    assert found[0] == found[1]
    records = found[0]
    assert {record.object for record in records} == {"cell", "core"}
    clips = {(record.object, record.condition) for record in records}
    assert {event for _, event in clips} <= set(made.EVENTS) and len(clips) >= 6
    for clip in clips:
        mine = [record for record in records if (record.object, record.condition) == clip]
        assert [record.method for record in mine] == [memory.WITH, memory.PROGRAM, memory.WITHOUT]
        assert all(len(record.slices["dice"]) == memory.FRAMES for record in mine)
        assert mine[0].slices["truth"] == mine[2].slices["truth"]
        # The first frame has no memory yet.
        assert mine[0].slices["dice"][0] == mine[2].slices["dice"][0]
    changed = [one for one in records if one.method == memory.WITH]
    alone = [one for one in records if one.method == memory.WITHOUT]
    assert any(a.slices["dice"] != b.slices["dice"] for a, b in zip(changed, alone, strict=True))


def test_a_model_without_a_memory_is_refused(folder):
    plan = Plan(data=folder.path, part="test", measures=["memory"], sets=["toy"])
    with pytest.raises(UsageError, match="has no memory"):
        measure(Segmenter(EchoModel(), "cpu"), plan, ScoreFile(None, FACTS))


def record(patient, condition, method, score, dataset="toy"):
    return Record(
        measure=memory.NAME, dataset=dataset, object="cell", condition=condition, method=method, supports=4,
        case=patient, patient=patient, score=score,
    )  # fmt: skip


def test_the_gain_is_paired_by_patient_and_has_an_interval():
    gains = {"a": 0.1, "b": 0.3, "c": 0.2}
    records = []
    for patient, gain in gains.items():
        records += [
            record(patient, made.TWIN, memory.WITH, 0.5 + gain),
            record(patient, made.TWIN, memory.WITHOUT, 0.5),
        ]
    records += [record("d", made.TWIN, memory.WITH, 0.9, "other"), record("d", made.TWIN, memory.WITHOUT, 0.3, "other")]
    records.append(record("e", made.TWIN, memory.WITH, 1.0))  # has no partner
    scores = Scores(facts=FACTS, records=records)
    rows = rows_of(scores)
    name = f"{memory.WITH} minus {memory.WITHOUT}"
    own = rows["memory", "toy", "cell", made.TWIN, name, 4].summary()
    assert own.count == 3 and own.mean == pytest.approx(0.2) and own.low >= 0.1 - 1e-9 and own.high <= 0.3 + 1e-9
    every = rows["memory", ALL_SETS, EACH_OBJECT, made.TWIN, name, 4].summary()
    assert every.count == 4 and every.mean == pytest.approx(0.3)
    assert f"{name} | 4 | 4 | 0.300" in to_markdown([scores])


def test_a_picture_in_colour_and_one_in_grey_keep_their_kind(folder):
    from ProxyPromptSegmentLib.data.cases import Case

    for shape in ((1, 64, 48), (1, 64, 48, 3)):
        masks = np.zeros((1, 1, 64, 48), np.uint8)
        masks[0, 0, 20:30, 20:30] = 1
        images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        case = Case(
            dataset="x", patient="p", images=images, masks=masks, objects=("a",), spacing_mm=None, name="p"
        )  # fmt: skip
        for _, frames, truth in memory.made_clips(case, 0, 0):
            assert frames.shape == (memory.FRAMES, *shape[1:]) and truth.shape == (memory.FRAMES, 64, 48)
            assert frames.min() >= 0 and frames.max() <= 1.0001
