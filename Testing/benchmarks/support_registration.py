"""Registration of annotated volumes as a segmenter of its own: the table of Docs/results/registration.md.

    python Testing/benchmarks/support_registration.py DATA_FOLDER promise12 acdc

Targets are the validation volumes, supports the training patients: each alone (K = 1), and four at a time, their
masks averaged. One thread; seconds are processor time for one support.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.support.registration.alignment import align, working_pixel
from ProxyPromptSegmentLib.support.registration.deformation import deform
from ProxyPromptSegmentLib.support.registration.placement import candidates
from ProxyPromptSegmentLib.support.registration.prior import DEFORMED_WITH, PLACED_WITH, MarkedStack, register
from ProxyPromptSegmentLib.support.registration.stack import Stack, box_of

TOGETHER = 4


def stack_of(case: Case) -> Stack:
    """A case's slices; distances are known only for some sets."""
    unit = window_to_unit(case.images, intensity_window(case.images))
    return Stack(unit, case.spacing_mm or (1.0, 1.0, 1.0), measured=case.spacing_mm is not None)


def warped(masks: np.ndarray, support: Stack, target: Stack, transform: sitk.Transform) -> np.ndarray:
    """Masks ``(S, N, H, W)`` of the support on the target's grid."""
    grid = target.image()
    made = [
        sitk.Resample(support.with_array(m).image(), grid, transform, sitk.sitkLinear, 0.0)
        for m in masks.swapaxes(0, 1)
    ]
    return np.stack([sitk.GetArrayFromImage(one) for one in made], axis=1)


def whole(support: Case, target: Case) -> tuple[np.ndarray, float]:
    """What the program does."""
    found = register([MarkedStack(support.name, stack_of(support), support.masks)], stack_of(target))
    if found.masks is None:
        return np.zeros(target.masks.shape, np.float32), found.supports[0].similarity
    return found.masks, found.supports[0].similarity


def placed_only(support: Case, target: Case) -> tuple[np.ndarray, float]:
    """Without the deformable step."""
    one, other = stack_of(support), stack_of(target)
    box = box_of(support.masks.any(axis=1), PLACED_WITH)
    found = align(one, box, other, candidates(one, box, other))
    return warped(support.masks, one, other, found.placement.from_target()), found.similarity


def slice_by_slice(support: Case, target: Case) -> tuple[np.ndarray, float]:
    """Each slice of the target with the support's slice at the same relative height."""
    one, other = stack_of(support), stack_of(target)
    result = np.zeros(target.masks.shape, np.float32)
    for number in range(len(target.images)):
        own = min(len(support.images) - 1, int((number + 0.5) / len(target.images) * len(support.images)))
        marked = support.masks[own : own + 1]
        if not marked.any():
            continue
        marked = np.repeat(marked, 3, axis=0)  # thick enough for what is made for volumes
        first = Stack(np.repeat(one.array[own : own + 1], 3, axis=0), one.spacing, measured=False)
        second = Stack(np.repeat(other.array[number : number + 1], 3, axis=0), other.spacing, measured=False)
        box = box_of(marked.any(axis=1), PLACED_WITH)
        found = align(first, box, second, candidates(first, box, second)).placement
        found = replace(found, place=(found.centre[0], *found.place[1:]), height=1.0)  # within the plane alone
        near = box_of(marked.any(axis=1), DEFORMED_WITH)
        better = deform(first, near, second, found, working_pixel(first, box) * found.size)
        transform = found.from_target() if better is None else better.transform
        result[number] = warped(marked, first, second, transform)[1]
    return result, 0.0


def itk_affine(support: Case, target: Case) -> tuple[np.ndarray, float]:
    """SimpleITK's affine registration of whole volumes by mutual information from their moments, then Demons."""
    one, other = stack_of(support).shrink(2.0), stack_of(target).shrink(2.0)
    fixed, moving = other.image(), one.image()
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.3, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2, 0])
    moments = sitk.CenteredTransformInitializerFilter.MOMENTS
    start = sitk.CenteredTransformInitializer(fixed, moving, sitk.AffineTransform(3), moments)
    method.SetInitialTransform(start, inPlace=False)
    try:
        affine = method.Execute(fixed, moving)
    except RuntimeError:  # the volumes slid past each other
        affine = start
    moved = sitk.HistogramMatching(sitk.Resample(moving, fixed, affine, sitk.sitkLinear, 0.0), fixed, 128, 12)
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(50)
    demons.SetStandardDeviations(1.5)
    both = sitk.CompositeTransform(3)
    both.AddTransform(affine)
    both.AddTransform(sitk.DisplacementFieldTransform(demons.Execute(fixed, moved)))
    return warped(support.masks, stack_of(support), stack_of(target), both), 0.0


METHODS: dict[str, Callable[[Case, Case], tuple[np.ndarray, float]]] = {
    "affine by mutual information, Demons (whole volume)": itk_affine,
    "slice by slice": slice_by_slice,
    "placed and aligned": placed_only,
    "placed, aligned, deformed": whole,
}


def scores(masks: np.ndarray, case: Case) -> list[float]:
    """Dice of each object."""
    return [dice(case.masks[:, n], masks[:, n] >= 0.5) for n in range(masks.shape[1])]


def main() -> None:
    """Prints a row for each data set and method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--most", type=int, default=12, help="training patients")
    options = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    print("| set | method | K = 1 | K = 4 | seconds a support |\n|---|---|---|---|---|")
    for name in options.sets:
        parts = split(load_dataset(options.data, name), name)
        patients = sorted({case.patient for case in parts.train})[: options.most]
        each = [[case for case in parts.train if case.patient == patient] for patient in patients]
        supports = [cases[number % len(cases)] for number, cases in enumerate(each)]  # phases of the heart in turn
        for method in options.method or METHODS:
            single: dict[str, list[list[float]]] = {}
            four: dict[str, list[list[float]]] = {}
            seconds, likeness = [], []
            for target in parts.validation:
                found = []
                for support in supports:
                    begun = time.process_time()
                    masks, similarity = METHODS[method](support, target)
                    seconds.append(time.process_time() - begun)
                    found.append(masks)
                    likeness.append(similarity)
                    single.setdefault(target.patient, []).append(scores(masks, target))
                for at in range(0, len(found) - TOGETHER + 1, TOGETHER):
                    mean = np.mean(found[at : at + TOGETHER], axis=0)
                    four.setdefault(target.patient, []).append(scores(mean, target))
            cells = [np.mean([np.mean(rows, axis=0) for rows in by.values()], axis=0) for by in (single, four)]
            texts = [" / ".join(f"{value:.3f}" for value in cell) for cell in cells]
            print(f"| {name} | {method} | {texts[0]} | {texts[1]} | {np.mean(seconds):.2f} |", flush=True)
            if any(likeness):
                worst = np.percentile(likeness, (0, 5, 25, 50))
                means = [np.mean(row) for rows in single.values() for row in rows]
                relation = np.corrcoef(likeness, means)[0, 1]
                print(f"similarity {np.round(worst, 3)}, correlation with Dice {relation:.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
