"""Models that need no support as rows of a table, their small decoder, and masks as SAM's prompts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from class_doubles import mark_model  # noqa: E402
from compared_cases import drawn_case, tiny_frozen  # noqa: E402
from ProxyPromptSegmentLib.errors import UsageError  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.image_prompts import ClassModel, Drawn, MaskPrompt  # noqa: E402
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen  # noqa: E402
from ProxyPromptSegmentLib.evaluation.systems.system import Kind, Lesson  # noqa: E402
from ProxyPromptSegmentLib.inference.segmenter import Segmenter  # noqa: E402


@pytest.fixture(scope="module")
def classes() -> Frozen:
    return Frozen.of(Segmenter(mark_model(), "cpu"), "marks")


def named(case, *objects):
    """The case, with its first object under each of some names."""
    masks = np.repeat(case.masks[:, :1], len(objects), axis=1)
    return dataclasses.replace(case, masks=masks, objects=objects)


def test_each_class_is_drawn_by_its_name_and_an_unknown_one_is_refused(classes):
    case = named(drawn_case(0), "prostate", "polyp")
    masks = ClassModel(frozen=classes).fit(Lesson(few=(case,))).segment(case)
    assert masks.shape == case.masks.shape and masks.dtype == np.uint8
    assert not np.array_equal(masks[:, 0], masks[:, 1])  # each class has vectors of its own
    spleen = named(case, "spleen")
    with pytest.raises(UsageError, match="spleen"):
        ClassModel(frozen=classes).fit(Lesson(few=(spleen,)))
    with pytest.raises(UsageError, match="no surrogate decoder"):
        ClassModel(frozen=classes, drawn=Drawn.SURROGATE).fit(Lesson(few=(case,)))


def test_the_true_mask_is_a_prompt_of_slices_that_show_something(classes):
    case = named(drawn_case(0), "prostate")
    truth = MaskPrompt(frozen=tiny_frozen(), by=None, name="mask")
    assert truth.kind is Kind.TRUTH
    emptied = dataclasses.replace(case, masks=np.zeros_like(case.masks))
    fitted = truth.fit(Lesson(few=(case,)))
    assert fitted.segment(case).shape == case.masks.shape and not fitted.segment(emptied).any()
    by_model = MaskPrompt(frozen=tiny_frozen(), by=ClassModel(frozen=classes), name="mask of the model")
    assert by_model.kind is Kind.FULL
    first = ClassModel(frozen=classes).fit(Lesson(few=(case,))).segment(emptied)
    again = by_model.fit(Lesson(few=(case,))).segment(emptied)  # the truth is not read
    assert again.any() == first.any()
