"""The tracker's doubt: proxy prompt and memory are compared; a drift is reported, and its memory is dropped."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, ImageFeatures, Prompt
from ProxyPromptSegmentLib.tracking import agreement
from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank
from tracking_doubles import (
    JUMPS,
    STAYS,
    assert_same,
    follow,
    spots,
    sticky,
)


def test_a_memory_that_drifts_is_reported_and_dropped_for_that_object_alone():
    images = spots(*STAYS, *JUMPS)
    tracker = sticky()
    answers = follow(tracker, images)
    assert np.isnan(answers[0].agreement).all()
    np.testing.assert_allclose(answers[1].agreement, 1, atol=1e-4)
    assert [a.disagrees.tolist() for a in answers] == [[False, False]] * 2 + [[True, False], [False, False]]
    assert [a.reanchored.tolist() for a in answers] == [[False, False]] * 2 + [[True, False], [False, False]]
    assert answers[2].agreement[0] == 0
    for t, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.masks(), images[t, ..., :2].transpose(2, 0, 1).astype(np.uint8))
    assert [m.frame for m in tracker._now.banks[0].read(9)] == [2]
    assert [m.frame for m in tracker._now.banks[1].read(9)] == [0, 1, 2]


def test_objects_stay_in_their_order_when_the_second_is_dropped():
    images = spots(*STAYS, *[((0, 0), (8, 40))] * 2)
    answers = follow(sticky(), images)
    assert answers[2].reanchored.tolist() == [False, True]
    for answer, image in zip(answers, images, strict=True):
        np.testing.assert_array_equal(answer.masks(), image[..., :2].transpose(2, 0, 1).astype(np.uint8))


def test_a_proxy_prompt_that_shows_no_pixel_drops_nothing_however_sure_it_is():
    seen = torch.full((1, 1, 16, 16), 9.0)
    sure = {"quality": torch.full((1, 1), 0.9), "presence": torch.full((1, 1), 8.0)}
    bank, features = (
        MemoryBank(),
        ImageFeatures(top=seen[:, :, :4, :4], positions=seen[0], valid=torch.ones(1, 4, 4, dtype=torch.bool)),
    )
    bank.add(FrameMemory(frame=0, spatial=torch.zeros(1, 1, 4, 4), pointer=torch.zeros(1, 1)))
    for alone, dropped in ((-seen, False), (seen.triu(12), True)):
        check = agreement.AgreementCheck("exact", 0.5, True)
        nearly_nothing = torch.where(alone == 0, -9.0, alone)
        found = check(
            lambda *_, logits=nearly_nothing: Decoded(logits=logits, **sure),
            features,
            Prompt(memory=torch.zeros(1, 1, 1, 1)),
            Decoded(logits=seen, **sure),
            [bank],
            1,
            1,
            (0,),
        )
        assert found.disagrees.tolist() == [True]
        assert found.reanchored.tolist() == [dropped]


def test_without_reanchoring_a_drift_is_only_reported():
    answers = follow(sticky(reanchor=False), spots(*STAYS, *JUMPS))
    assert [a.disagrees.tolist() for a in answers] == [[False, False]] * 2 + [[True, False]] * 2
    assert not any(a.reanchored.any() for a in answers)
    np.testing.assert_array_equal(answers[3].masks(), answers[0].masks())


def test_a_check_that_is_off_says_nothing():
    answers = follow(sticky(check_agreement=False), spots(*STAYS, *JUMPS))
    assert all(np.isnan(a.agreement).all() and not a.disagrees.any() for a in answers)


def test_a_memory_bridges_frames_on_which_the_proxy_prompt_sees_nothing():
    answers = follow(sticky(), spots(*STAYS, ((0, 0), None)))
    assert answers[2].disagrees.tolist() == [False, True]
    assert not answers[2].reanchored.any()
    assert answers[2].masks()[1].any()


def test_a_proxy_prompt_that_is_not_sure_drops_nothing(monkeypatch):
    monkeypatch.setattr(agreement, "CONFIDENT", 0.95)  # the sticky network's estimate is 0.9
    answers = follow(sticky(), spots(*STAYS, *JUMPS))
    assert answers[2].disagrees.tolist() == [True, False]
    assert not answers[2].reanchored.any()


def test_what_somebody_gave_outranks_the_proxy_prompt():
    tracker = sticky()
    images = spots(*STAYS, *JUMPS)
    follow(tracker, images[:2])
    tracker.correct(images[0, ..., 0], object_index="red")
    answers = follow(tracker, images[2:])
    assert answers[0].disagrees[0]
    assert not answers[0].reanchored.any()
    np.testing.assert_array_equal(answers[1].masks()[0], images[0, ..., 0])


def test_after_a_drop_all_is_as_if_tracking_began_there():
    images = spots(*STAYS, *JUMPS, ((42, 8), (40, 40)))
    later = follow(sticky(names=("red",)), images)[2:]
    fresh = follow(sticky(names=("red",)), images[2:])
    for one, other in zip(later, fresh, strict=True):
        assert_same(one, other, atol=0)


def test_nothing_to_see_is_no_disagreement():
    answers = follow(sticky(), spots(*[((0, 0), None)] * 3))
    np.testing.assert_allclose(answers[2].agreement, 1, atol=1e-4)
    assert not answers[2].disagrees.any()


def test_agreement_is_cheap_while_nothing_is_suspicious():
    tracker = sticky()
    follow(tracker, spots(*STAYS * 5))
    assert tracker.segmenter.model.backbone.decoded_alone == 1
    exact = sticky(check_agreement="exact")
    answers = follow(exact, spots(*STAYS * 5))
    assert exact.segmenter.model.backbone.decoded_alone == 10
    assert all((a.agreement == 1).all() for a in answers[1:])


def test_a_false_alarm_silences_the_prior_for_a_while():
    tracker = sticky(prior=lambda seen: 1 - seen)
    answers = follow(tracker, spots(*STAYS * 10))
    checked = [t for t, a in enumerate(answers) if not np.isnan(a.agreement).any()]
    assert checked == [1, 9, 17]
    assert all((answers[t].agreement == 1).all() for t in checked)
    assert not any(a.disagrees.any() for a in answers)
    assert tracker.segmenter.model.backbone.decoded_alone == 1 + len(checked)


def test_without_a_prior_every_eighth_frame_is_checked():
    answers = follow(sticky(prior=None), spots(*STAYS * 5, *JUMPS * 4))
    assert [t for t, a in enumerate(answers) if not np.isnan(a.agreement).any()] == [8, 16]
    assert [t for t, a in enumerate(answers) if a.reanchored.any()] == [16]


def test_the_threshold_decides_what_disagrees():
    images = spots(*STAYS, ((0, 5), (40, 40)))  # Dice of the red squares: 11 / 16
    for threshold, told in ((0.7, [True, False]), (0.6, [False, False])):
        answer = follow(sticky(disagreement=threshold, check_agreement="exact"), images)[2]
        assert answer.disagrees.tolist() == told
        np.testing.assert_allclose(answer.agreement, [11 / 16, 1], atol=1e-6)


def test_padding_has_no_say_in_the_agreement():
    """The lower half of a wide frame's square is padding."""
    prompt = Prompt(prior=torch.zeros(1, 1, 4, 4))
    prompt.prior[:, :, 2:] = 1
    logits = torch.full((1, 1, 16, 16), -9.0)
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[:, 2:] = False
    decoded = Decoded(logits=logits, quality=torch.ones(1, 1))
    assert agreement.prior_agreement(prompt, decoded, valid).item() == 1
    assert agreement.prior_agreement(prompt, decoded, torch.ones_like(valid)).item() < 0.1
    shown = Decoded(logits=logits.clone(), quality=torch.ones(1, 1))
    shown.logits[:, :, 8:] = 9
    assert agreement.mask_agreement(decoded, shown, prompt, valid).item() == 1
    assert agreement.mask_agreement(decoded, shown, prompt, torch.ones_like(valid)).item() == 0
