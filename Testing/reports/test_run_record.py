"""The run record: from it a mask can be judged, and no name is in it unless names are asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import InContextModel, a_case, write_case
from frames_cases import a_frames_result
from plain_run import run
from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.run_record import record_text, run_record
from ProxyPromptSegmentLib.support.case import SupportCase, read_support_case

MODEL = SimpleNamespace(name="double", path=Path("/models/double.safetensors"), sha256="ab" * 32, metadata={"steps": 7})
NAME = "Mueller^Hans 1951"
STARTED = datetime(2026, 5, 4, 12, 30, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture
def segmenter():
    return Segmenter(InContextModel(), "cpu", batch=1)


def a_named_case(seed, name):
    volume, segmentation = a_case(seed)
    return SupportCase(Volume(volume.array, volume.geometry, name), segmentation)


def a_record(segmenter, target=NAME, support="Meier, Anna", **more):
    """A record of a job between two cases in memory, as Slicer has them."""
    cases = [a_named_case(1, support), a_named_case(5, "third")]
    job = plan(cases, a_named_case(2, target).volume, slices=[1, 2, 3])
    outcome = run(segmenter, job)
    parameters = {
        "threshold": np.float32(0.5),
        "slices": (1, 2, 3),
        "worst": float("nan"),
        **more.pop("parameters", {}),
    }
    facts = {"supports": cases, "started": STARTED, "seconds": 1.23456, **more}
    return run_record(job, outcome, MODEL, parameters, "cuda:0", **facts), job, cases


def test_the_record_tells_from_what_with_what_and_how(segmenter):
    record, job, cases = a_record(segmenter, rungs=["Half precision."], sentences=["Look here.", "Half precision."])
    assert (record["program"], record["research_use_only"], record["state"]) == ("proxyprompt", True, "complete")
    assert record["started"] == "2026-05-04T10:30:00+00:00"
    assert record["model"] == {"name": "double", "file": "double.safetensors", "sha256": "ab" * 32, "steps": 7}
    assert record["settings"] == {"threshold": 0.5, "slices": [1, 2, 3], "worst": None}
    assert (record["device"], record["seconds"]) == ("cuda:0", {"total": 1.235})
    assert (record["memory"], record["notes"][-1]) == (["Half precision."], "Look here.")
    assert record["versions"]["proxyprompt"] == __version__ and "torch" in record["versions"]
    assert (record["slices_wanted"], record["slices_done"]) == (3, [1, 2, 3])
    assert [entry["name"] for entry in record["objects"]] == ["gland", "stone"]
    assert record["objects"][0]["volume_ml"] > 0
    first = record["inputs"]["supports"][0]
    assert first["image"]["voxels_sha256"] == hashlib.sha256(cases[0].volume.array.tobytes()).hexdigest()
    assert record["inputs"]["target"]["voxels_sha256"] == hashlib.sha256(job.target.array.tobytes()).hexdigest()
    assert first["slices"][0] == {
        "slice": 1,
        "objects": ["gland", "stone"],
        "image_sha256": hashlib.sha256(job.support.pairs[0].image.tobytes()).hexdigest(),
        "masks_sha256": hashlib.sha256(job.support.pairs[0].masks.tobytes()).hexdigest(),
    }
    assert json.loads(record_text(record)) == record


def test_nobody_is_named_unless_somebody_asked(segmenter, tmp_path):
    told = [
        f"The target {NAME} and '{NAME}' and the support Meier, Anna differ.",
        f"read /home/{NAME.split('^')[0]}/case.nrrd slowly",
    ]
    more = {
        "sentences": told,
        "parameters": {"output": tmp_path / NAME, "note": f"for {NAME}"},
        "support_facts": [{"title": "Anna M.", "annotator": "Dr. Who", "source_sha256": "cd", "modality": "MR"}, {}],
    }
    record = a_record(segmenter, **more)[0]
    text = record_text(record)
    for secret in ("Mueller", "Meier", "Anna", "Who", str(tmp_path)):
        assert secret not in text, secret
    assert record["notes"][-2:] == [
        "The target and 'target' and the support 1 differ.",
        "read (path left out) slowly",
    ]
    assert record["settings"]["output"] == "(path left out)" and record["settings"]["note"] == "for target"
    assert record["inputs"]["supports"][0]["facts"] == {"source_sha256": "cd", "modality": "MR"}
    named = a_record(segmenter, names=True, **more)[0]
    assert named["inputs"]["target"]["name"] == NAME
    assert [one["name"] for one in named["inputs"]["supports"]] == ["Meier, Anna", "third"]
    assert named["notes"][-2:] == told and named["inputs"]["supports"][0]["facts"]["annotator"] == "Dr. Who"


def test_files_are_told_by_hash_and_not_by_path(segmenter, tmp_path):
    case = read_support_case(*write_case(tmp_path, "Meier", a_case(1)))
    job = plan([case], read_volume(write_case(tmp_path, "Mueller", a_case(2))[0]))
    record = run_record(job, run(segmenter, job), MODEL, {}, "cpu", [case])
    support = record["inputs"]["supports"][0]
    assert support["segmentation"] == {"sha256": hashlib.sha256((tmp_path / "Meier.seg.nrrd").read_bytes()).hexdigest()}
    assert "Meier" not in record_text(record) and "Mueller" not in record_text(record)
    named = run_record(job, run(segmenter, job), MODEL, {}, "cpu", [case], names=True)
    assert named["inputs"]["target"]["path"] == str(tmp_path / "Mueller.nrrd")
    assert named["seconds"].keys() == {"support", "segmentation"}  # the outcome's own


def test_a_short_number_is_no_name(segmenter):
    record = a_record(segmenter, support="12", sentences=["12 slices were done."])[0]
    assert record["notes"][-1] == "12 slices were done."


def test_the_slices_that_prompt_are_known_without_their_cases(segmenter):
    with_cases, job, _ = a_record(segmenter)
    alone = a_record(segmenter, supports=())[0]
    for one, other in zip(alone["inputs"]["supports"], with_cases["inputs"]["supports"], strict=True):
        assert one["slices"] == other["slices"] and one["window"] == other["window"] and one["axis"] == other["axis"]
    assert len(alone["inputs"]["supports"]) == 2


def test_facts_for_another_number_of_supports_are_refused(segmenter):
    with pytest.raises(UsageError, match="1 facts are given for 2 supports"):
        a_record(segmenter, support_facts=[{}])


def test_frames_have_their_own_entries(segmenter):
    job = plan([a_named_case(1, "one")], a_case(2)[0])
    masks = np.zeros((3, 2, 4, 4), np.uint8)
    masks[1, 0, :2] = 1
    outcome = a_frames_result(
        ("gland", "stone"),
        masks,
        skipped={2: f"{NAME} has NaN"},
        notes=[Note("a note")],
        seconds={"total": 2.0},
        cancelled=True,
    )
    record = run_record(replace(job, name=NAME), outcome, MODEL, {"mode": "proxy+bank"}, "cpu")
    assert (record["frames"], record["frames_done"], record["state"]) == (3, [0, 1], "stopped by the user")
    assert record["frames_skipped"] == [{"frame": 2, "reason": "target has NaN"}]
    assert record["objects"][0] == {
        "name": "gland",
        "area_px": [8, 8],
        "area_mm2": [6.48, 6.48],
        "frames_found": [1],
        "lowest_confidence": [{"frame": 1, "confidence": 0.9}],
    }
    assert record["command"] == "track"
    json.loads(record_text(record))
