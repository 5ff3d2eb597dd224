"""Each system from end to end on real cases with the embedded weights."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks
from optional_packages import needs_monai
from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.evaluation.systems.catalogue import names, systems_for
from ProxyPromptSegmentLib.evaluation.systems.system import Kind, Lesson
from ProxyPromptSegmentLib.imaging.metrics import dice

pytestmark = needs_monai

ELSEWHERE = {"nnunet", "nnunet-all", "first-frame"}  # of another program, or a model with a memory
LEAST = {
    "proxy-prompt": 0.6,
    "sam-box": 0.7,
    "sam-mask": 0.8,
    "matching": 0.6,
    "persam": 0.5,
    "automedsam": 0.8,
    "mean-mask": 0.1,
}


@pytest.fixture(scope="module")
def lesson_and_targets(shared_data):
    parts = split(load_dataset(shared_data, "drishti_gs"), "drishti_gs")
    pool = parts.train or parts.validation or parts.test[2:]
    return Lesson(few=tuple(pool[:2]), full=tuple(pool[:2]), seconds=1.0, threads=1), parts.test[:2]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(names()) - ELSEWHERE))
def test_every_system_segments_two_real_fundus_images(lesson_and_targets, name):
    lesson, targets = lesson_and_targets
    system = systems_for("sam-compact", [name])[name]
    fitted = system.fit(lesson)
    found = [fitted.segment(target) for target in targets]
    for masks, target in zip(found, targets, strict=True):
        check_masks(masks, target)
        assert dice(target.masks[:, 0], masks[:, 0]) >= LEAST.get(name, 0.0)
    if system.kind is Kind.TRUTH:
        assert any(masks.any() for masks in found)


@pytest.mark.slow
def test_sam_2_follows_a_real_sweep_from_another_patients_frame(shared_data):
    pytest.importorskip("sam2")
    parts = split(load_dataset(shared_data, "ccaus_video"), "ccaus_video")
    case = parts.test[0]
    short = type(case)(**{**vars(case), "images": case.images[:3], "masks": case.masks[:3]})
    for name in ("first-frame", "sam-box"):
        fitted = systems_for("sam2-compact", [name])[name].fit(Lesson(few=tuple(parts.train[:1]), threads=1))
        check_masks(fitted.segment(short), short)
