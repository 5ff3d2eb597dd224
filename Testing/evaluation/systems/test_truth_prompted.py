"""SAM and SAM 2 prompted with the truth: which prompts, on which slices, and what is decoded of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks, drawn_case, drawn_lesson, tiny_frozen, tiny_tracking
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.systems import truth as module
from ProxyPromptSegmentLib.evaluation.systems.first_frame import FirstFrame
from ProxyPromptSegmentLib.evaluation.systems.truth import MEDSAM, Said, TruthPrompted, prompt_of
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.by_hand.prompts import Box, Point
from ProxyPromptSegmentLib.networks.letterbox import logits_to_slice, points_to_square


def test_the_truth_says_its_middle_its_box_or_itself():
    truth = np.zeros((20, 30), np.uint8)
    truth[4:13, 10:19] = 1
    truth[1, 1] = 1
    assert prompt_of(truth, Said.POINT).points == (Point(8, 14, True),)
    assert prompt_of(truth, Said.BOX).box == Box(1, 1, 12, 18) and prompt_of(truth, Said.BOX).mask is None
    np.testing.assert_array_equal(prompt_of(truth, Said.MASK).mask, truth)


def test_a_box_is_decoded_as_the_package_does_and_empty_slices_stay_empty():
    frozen, target = tiny_frozen(), drawn_case(3, slices=3)
    system = TruthPrompted(frozen, Said.BOX)
    assert system.name == "SAM, box" and "tiny stands in for the official weights" in system.source
    masks = system.fit(drawn_lesson()).segment(target)
    check_masks(masks, target)
    assert not masks[0].any() and not masks[2].any() and masks[1].any()
    encoded = frozen.segmenter.encode(target.images[1:2], module.intensity_window(target.images))
    rows, columns = (np.flatnonzero(target.masks[1, 0].any(axis=axis)) for axis in (1, 0))
    corners = points_to_square(np.array([(columns[0], rows[0]), (columns[-1], rows[-1])], np.float64), encoded.box)
    sam = frozen.segmenter.model.backbone.sam
    with torch.inference_mode():
        sparse, dense = sam.prompt_encoder(points=None, boxes=torch.from_numpy(corners).reshape(1, 4), masks=None)
        logits, _ = sam.mask_decoder(
            image_embeddings=encoded.features.top,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    np.testing.assert_array_equal(masks[1, 0], (logits_to_slice(logits[0, 0], encoded.box) > 0).numpy())


@pytest.mark.parametrize("said", [Said.POINT, Said.MASK])
def test_points_and_masks_prompt_every_object(said):
    target = drawn_case(4)
    check_masks(TruthPrompted(tiny_frozen(), said).fit(drawn_lesson()).segment(target), target)


def test_of_everything_what_overlaps_most_with_the_truth_counts(monkeypatch):
    target = drawn_case(5)
    half = target.masks[0, 0].copy()
    half[:, 30:] = 0
    found = [np.zeros_like(half), half, target.masks[0, 1]]
    monkeypatch.setattr(module._Prompted, "_everything", lambda self, encoded: found)
    masks = TruthPrompted(tiny_frozen(), Said.EVERYTHING).fit(drawn_lesson()).segment(target)
    np.testing.assert_array_equal(masks[0, 1], target.masks[0, 1])
    assert dice(target.masks[0, 0], masks[0, 0]) == max(dice(target.masks[0, 0], one) for one in found)


def test_medsams_row_says_what_stands_in_for_it():
    system = TruthPrompted(tiny_frozen(), Said.BOX, MEDSAM)
    assert system.name == "MedSAM, box" and system.source.endswith("tiny stands in for MedSAM")


@pytest.fixture(scope="module")
def tracking():
    return tiny_tracking()


def test_in_a_sweep_sam_2_is_prompted_on_the_first_frame_of_each_object_alone(tracking, monkeypatch):
    seen = {}
    real = module.track_volume

    def track(*args, **more):
        seen.update(more)
        return real(*args, **more)

    monkeypatch.setattr(module, "track_volume", track)
    sweep = drawn_case(6, slices=5, dataset="ccaus_video")
    later = sweep.masks.copy()
    later[:2, 1] = 0
    sweep = replace(sweep, masks=later)
    system = TruthPrompted(tracking, Said.MASK)
    assert system.name == "SAM 2, mask"
    check_masks(system.fit(drawn_lesson()).segment(sweep), sweep)
    assert {frame: list(said) for frame, said in seen["by_hand"].items()} == {1: [0], 2: [1]}
    np.testing.assert_array_equal(seen["by_hand"][2][1].mask, sweep.masks[2, 1])


def test_supports_are_the_first_frames_of_sam_2(tracking):
    lesson, sweep = drawn_lesson(1), drawn_case(6, slices=3, dataset="ccaus_video")
    fitted = FirstFrame(tracking).fit(lesson)
    masks = fitted.segment(sweep)
    check_masks(masks, sweep)
    network = tracking.segmenter.model.backbone
    window = module.intensity_window(sweep.images[:1])
    support = tracking.segmenter.encode(lesson.few[0].images, module.intensity_window(lesson.few[0].images))
    target = tracking.segmenter.encode(sweep.images[:1], window)
    with torch.inference_mode():
        tensor = module_masks(lesson.few[0], support)
        memory = network.remember_mask(support.features, tensor, 0)
        drawn = network.decode(target.features, module_prompt(), [memory], 1)
        shown = (
            torch.sigmoid(logits_to_slice(drawn.logits, target.box)) * torch.sigmoid(drawn.presence)[..., None, None]
        )
    np.testing.assert_array_equal(masks[0], (shown[0] > 0.5).numpy())
    with pytest.raises(UsageError, match="has no memory"):
        FirstFrame(tiny_frozen()).fit(lesson)


def module_masks(case, encoded):
    from ProxyPromptSegmentLib.networks.letterbox import masks_to_tensor

    return masks_to_tensor(case.masks, encoded.box)


def module_prompt():
    from ProxyPromptSegmentLib.networks.values import Prompt

    return Prompt()
