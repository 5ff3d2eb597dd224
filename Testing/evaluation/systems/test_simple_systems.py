"""Compared systems that need no training of ours: the model as given, copied masks, matching, the U-Net, the list."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks, drawn_case, drawn_lesson, tiny_frozen
from ProxyPromptSegmentLib.errors import CancelledError, SupportError, UsageError
from ProxyPromptSegmentLib.evaluation.systems import catalogue
from ProxyPromptSegmentLib.evaluation.systems.copied import CopiedMeanMask
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import marked_pairs, support_of
from ProxyPromptSegmentLib.evaluation.systems.matching import FeatureMatching
from ProxyPromptSegmentLib.evaluation.systems.proxy_prompt import InContext
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.evaluation.systems.unet import UnetSystem
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.registration.prior import MaskPrior


def test_the_catalogue_lists_systems_without_torch_and_makes_them_by_name():
    code = (
        "import sys; from ProxyPromptSegmentLib.evaluation.systems import catalogue as c; n = c.names(); "
        "made = c.systems_for('sam-compact', ['mean-mask']); assert 'torch' not in sys.modules; print(len(n))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(catalogue.names())
    made = catalogue.systems_for(tiny_frozen())
    assert list(made) == list(catalogue.names()) and len({one.name for one in made.values()}) == len(made)
    for key, offer in zip(made, catalogue.offers(), strict=True):
        assert made[key].kind is offer.kind and made[key].source and offer.about
    with pytest.raises(UsageError, match="no system 'nothing'.*choose from proxy-prompt"):
        catalogue.systems_for("sam-compact", ["nothing"])


def test_supports_are_spread_over_cases_and_over_their_marked_slices():
    volumes = [drawn_case(0, slices=20), drawn_case(1, slices=20)]
    pairs = marked_pairs(volumes, 8)
    assert [pair.slice_index for pair in pairs] == [3, 7, 12, 16] * 2
    assert len(marked_pairs([drawn_case(n) for n in range(12)], 8)) == 12
    only_disc = volumes[0].masks.copy()
    only_disc[:9, 1] = 0
    assert [pair.slice_index for pair in marked_pairs([replace(volumes[0], masks=only_disc)])] == list(range(9, 19))
    apart = volumes[0].masks.copy()
    apart[:, 1], apart[:, 0] = 0, volumes[0].masks[:, 0]
    apart[1, 0], apart[1, 1] = 0, volumes[0].masks[1, 1]  # the core on a slice of its own, far from the middle
    found = support_of([replace(one, masks=apart) for one in volumes], 2)
    assert [pair.slice_index for pair in found.pairs] == [1, 10] * 2, "an object that a case shows is in its supports"
    with pytest.raises(SupportError, match="none of the 1 annotated cases"):
        support_of([replace(volumes[0], masks=np.zeros_like(only_disc))])


def test_the_copied_mean_is_that_of_all_marked_slices_at_the_targets_size():
    lesson, target = drawn_lesson(3, slices=5), drawn_case(9, slices=4, side=32)
    masks = CopiedMeanMask().fit(lesson).segment(target)
    check_masks(masks, target)
    assert dice(masks[1, 0], target.masks[1, 0]) > 0.8 and (masks == masks[:1]).all()


def test_the_model_as_given_segments_what_a_direct_call_does():
    from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack

    frozen, lesson, target = tiny_frozen(), drawn_lesson(3), drawn_case(9)
    fitted = InContext(frozen).fit(lesson)
    masks = fitted.segment(target)
    check_masks(masks, target)
    direct = segment_stack(frozen.segmenter.reading(4), target.images, support_of(lesson.few)).masks()
    np.testing.assert_array_equal(masks, direct)
    check_masks(fitted.segment(drawn_case(8, side=48)), drawn_case(8, side=48))


def test_volumes_among_the_supports_are_registered_to_a_target_that_is_one(monkeypatch):
    from ProxyPromptSegmentLib.evaluation.systems import proxy_prompt as module

    seen = []
    prior = MaskPrior(masks=np.full((3, 2, 64, 64), 0.5, np.float32))
    monkeypatch.setattr(module, "register", lambda *args: seen.append(args) or prior)
    frozen, lesson = tiny_frozen(), drawn_lesson(2, slices=3)
    for register, count in ((False, 0), (True, 1)):
        fitted = InContext(frozen, register=register).fit(lesson)
        fitted.segment(drawn_case(9))
        check_masks(fitted.segment(drawn_case(9, slices=3)), drawn_case(9, slices=3))
        assert len(seen) == count
    volumes, target = seen[0]
    assert [one.name for one in volumes] == ["c0", "c1"] and target.array.shape == (3, 64, 64)


def test_matching_compares_the_models_own_features():
    frozen, target = tiny_frozen(), drawn_case(9, shift=2)
    masks = FeatureMatching(frozen).fit(drawn_lesson(4)).segment(target)
    check_masks(masks, target)
    with torch.inference_mode():
        whole = FeatureMatching(frozen)._matching()
        images = torch.rand(3, 3, 64, 64)
        found = whole.trunk(2 * images - 1)[0]
        torch.testing.assert_close(found, frozen.segmenter.model.backbone.encode(images).top)


def test_the_unet_learns_from_the_few_or_from_all_and_can_be_cancelled():
    pytest.importorskip("monai")
    target, said = drawn_case(9, side=40), []
    lesson = Lesson(few=(drawn_case(1, side=32),), seconds=0, threads=1)
    check_masks(UnetSystem().fit(lesson, said.append).segment(target), target)
    assert said == [1.0]
    with pytest.raises(UsageError, match="learns from all training cases"):
        UnetSystem(full=True).fit(lesson)
    check_masks(
        UnetSystem(full=True).fit(Lesson(few=(), full=lesson.few, seconds=0, threads=1)).segment(target), target
    )
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError, match="U-Net was cancelled"):
        UnetSystem().fit(lesson, cancel=cancel)


def test_rows_of_all_systems_have_names_of_their_own():
    found = [system.name for system in catalogue.systems_for(tiny_frozen()).values()]
    assert len(set(found)) == len(found) > 15


def test_supports_are_prepared_once_for_targets_of_several_sizes(monkeypatch):
    frozen, prepared = tiny_frozen(), []
    fitted = InContext(frozen).fit(drawn_lesson(2))
    real = type(fitted.segmenter).prepare
    monkeypatch.setattr(type(fitted.segmenter), "prepare", lambda self, given: prepared.append(1) or real(self, given))
    masks = [fitted.segment(drawn_case(9, side=side)) for side in (64, 60)]
    once = len(prepared)
    again = InContext(frozen).fit(drawn_lesson(2)).segment(drawn_case(9, side=60))
    assert np.array_equal(masks[1], again) and len(prepared) == 2 * once  # as many as for a single size
