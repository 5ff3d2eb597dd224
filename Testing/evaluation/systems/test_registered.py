"""Label transfer: what SimpleITK itself finds, on drawn and on real images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

sitk = pytest.importorskip("SimpleITK")

from compared_cases import check_masks, drawn_case
from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.evaluation.systems import transforms
from ProxyPromptSegmentLib.evaluation.systems.registered import LabelTransfer
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.imaging.metrics import dice


def called_directly(fixed, moving):
    """SimpleITK's affine registration, as its examples call it."""
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(2), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=1e-3, numberOfIterations=100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(start)
    return method.Execute(fixed, moving)


def test_the_affine_step_is_simpleitks_own_and_the_mask_is_resampled_with_it():
    support, target = drawn_case(1), drawn_case(2, shift=6)
    fixed, moving = (sitk.GetImageFromArray((one.images[0] / 255).astype(np.float32)) for one in (target, support))
    for image in (fixed, moving):
        image.SetSpacing((4.0, 4.0))
    transform = called_directly(fixed, moving)
    mask = sitk.GetImageFromArray(support.masks[0, 0])
    mask.CopyInformation(moving)
    direct = sitk.GetArrayFromImage(sitk.Resample(mask, fixed, transform, sitk.sitkNearestNeighbor, 0))
    given = [transforms.grid_image(one.images[0] / 255, None) for one in (target, support)]
    found = transforms.transferred(support.masks[0], given[1], given[0], transforms.affine(*given))
    assert given[0].GetSpacing() == (4.0, 4.0)
    np.testing.assert_array_equal(found[0], direct)
    assert dice(target.masks[0, 0], direct) > 0.9 > 0.85 > dice(target.masks[0, 0], support.masks[0, 0])


def test_demons_follow_where_affine_cannot():
    support, target = drawn_case(1, side=96), drawn_case(2, side=96)
    rows, columns = np.mgrid[:96, :96]
    bent = (np.clip(columns + np.round(8 * np.sin(rows / 7)).astype(int), 0, 95), rows)
    images, masks = target.images[:, bent[1], bent[0]], target.masks[:, :, bent[1], bent[0]]
    target = replace(target, images=images, masks=masks)
    lesson = Lesson(few=(support,))
    scores = []
    for system in (LabelTransfer(), LabelTransfer(deforms=True)):
        found = system.fit(lesson).segment(target)
        check_masks(found, target)
        scores.append(dice(masks[0, 0], found[0, 0]))
    assert scores[1] > max(0.9, scores[0] + 0.02)


def test_supports_vote_and_a_volume_is_registered_as_one(monkeypatch):
    from ProxyPromptSegmentLib.evaluation.systems import registered as module

    dimensions = []

    def still(fixed, moving):
        dimensions.append(fixed.GetDimension())
        return sitk.Transform(fixed.GetDimension(), sitk.sitkIdentity)

    monkeypatch.setattr(module, "affine", still)
    few = tuple(drawn_case(number, shift=shift) for number, shift in enumerate((0, 0, 20)))
    target = drawn_case(9)
    masks = LabelTransfer().fit(Lesson(few=few)).segment(target)
    np.testing.assert_array_equal(masks, few[0].masks)
    assert dimensions == [2, 2, 2]
    dimensions.clear()
    volumes = tuple(drawn_case(number, slices=9) for number in range(2))
    whole = drawn_case(9, slices=9)
    np.testing.assert_array_equal(LabelTransfer().fit(Lesson(few=volumes)).segment(whole), volumes[0].masks)
    assert dimensions == [3, 3]
    dimensions.clear()
    sweep = replace(whole, dataset="ccaus_video")
    check_masks(LabelTransfer().fit(Lesson(few=volumes)).segment(sweep), sweep)
    assert set(dimensions) == {2}, "frames follow one another in time"


@pytest.mark.slow
@pytest.mark.parametrize("deforms", [False, True])
def test_a_real_fundus_is_found_by_its_neighbours(shared_data, deforms):
    parts = split(load_dataset(shared_data, "drishti_gs"), "drishti_gs")
    lesson, target = Lesson(few=tuple((parts.train or parts.test)[:2])), parts.test[-1]
    found = LabelTransfer(deforms).fit(lesson).segment(target)
    check_masks(found, target)
    assert dice(target.masks[:, 0], found[:, 0]) > 0.4
