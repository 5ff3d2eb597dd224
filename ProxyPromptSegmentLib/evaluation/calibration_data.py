"""What presence and confidence are fitted on: slices with supports of their own set, of a sister set, and of strangers.

Validation patients only. Each sample is what the network gives away about one slice and object, and what is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad import refusal
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.evaluation.broad.tasks import Task, only, set_names, tasks_of
from ProxyPromptSegmentLib.evaluation.conditions import prepare_emptied
from ProxyPromptSegmentLib.imaging.metrics import dice_per_slice

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.networks.values import PreparedSupport
    from ProxyPromptSegmentLib.support.pairs import SupportSet

MOST_SLICES = 16
"""Slices of a volume or sweep that are sampled, evenly spread."""


class Kind(str, Enum):
    """Where the supports of a sample come from."""

    SAME = "same set"
    SISTER = "sister set"
    STRANGER = "another organ"
    EMPTIED = "emptied masks"


@dataclass(frozen=True)
class Sister:
    """An object that two sets of different sites mark alike, one of them for the targets and one for the supports."""

    dataset: str
    object: str
    supports: str
    support_object: str


SISTERS = (
    Sister("montgomery_cxr", "lungs", "shenzhen_cxr", "lungs"),
    Sister("shenzhen_cxr", "lungs", "montgomery_cxr", "lungs"),
    Sister("drive", "vessel", "fives_fundus", "retinal vessels"),
    Sister("hrf_fundus", "retinal vessels", "drive", "vessel"),
    Sister("drishti_gs", "optic disc", "idrid_disc", "optic disc"),
    Sister("idrid_disc", "optic disc", "drishti_gs", "optic disc"),
    Sister("busbra_breast_us", "breast lesion", "busi_breast_us", "breast lesion"),
    Sister("busi_breast_us", "breast lesion", "busbra_breast_us", "breast lesion"),
    Sister("ircad_liver_ct", "liver", "lits_liver_ct", "liver (with tumour)"),
    Sister("lits_liver_ct", "liver (with tumour)", "curvas_ct_abdomen", "liver"),
    Sister("curvas_ct_abdomen", "pancreas", "pancreas_ct", "pancreas"),
    Sister("kits_kidney_ct", "kidney", "curvas_ct_abdomen", "kidneys"),
    Sister("ph2_skin", "skin lesion", "ham10000_skin", "skin lesion"),
    Sister("ham10000_skin", "skin lesion", "ph2_skin", "skin lesion"),
    Sister("monuseg_nuclei", "nuclei", "tnbc_nuclei", "nuclei"),
    Sister("cellavision_wbc", "nucleus", "jtsc_wbc", "nucleus"),
    Sister("jtsc_wbc", "nucleus", "cellavision_wbc", "nucleus"),
    Sister("acdc", "left ventricle", "hvsmr2_heart_mri", "left ventricle"),
    Sister("hvsmr2_heart_mri", "left ventricle", "acdc", "left ventricle"),
    Sister("chd_heart_ct", "left ventricle", "hvsmr2_heart_mri", "left ventricle"),
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One slice and object.

    Attributes:
        kind: Where its supports come from.
        dataset: The target's data set.
        unit: The target's patient; samples of one patient are never divided.
        object: The object asked for.
        evidence: See `calibration.EVIDENCE`, ``(E,)``.
        shown: Whether the slice shows what was asked for.
        drawn: Whether the mask without presence has a pixel.
        dice: Dice of that mask.
    """

    kind: Kind
    dataset: str
    unit: str
    object: str
    evidence: npt.NDArray[np.float32]
    shown: bool
    drawn: bool
    dice: float


def collect(
    segmenter: Segmenter,
    data: Path,
    part: str,
    supports: int = 4,
    limit: int | None = 6,
    on_case: Callable[[str, int], None] | None = None,
) -> list[Sample]:
    """Collect the samples of all sets in a folder.

    Args:
        segmenter: The model.
        data: Folder of the data sets.
        part: ``validation`` to fit, ``test`` to report.
        supports: ``K``.
        limit: Largest number of patients per task.
        on_case: Called after each target with its set's name and the number of samples so far.
    """
    pools, samples = refusal.strangers(data), []
    for task in tasks_of(data, set_names(data), part, limit):
        for number, whole in enumerate(task.targets):
            case = few_slices(whole)
            encoded: dict[int, EncodedSlices] = {}
            for kind, (objects, truth), support in _asked(segmenter, data, task, case, number, supports, pools):
                asked = replace(case, objects=objects, masks=truth)
                samples += _samples(segmenter, task, kind, asked, support, encoded)
            if on_case:
                on_case(task.dataset, len(samples))
    return samples


def few_slices(case: Case) -> Case:
    """Return a case with at most `MOST_SLICES` slices, evenly spread."""
    count = len(case.images)
    if count <= MOST_SLICES:
        return case
    kept = [int((n + 0.5) * count / MOST_SLICES) for n in range(MOST_SLICES)]
    return replace(case, images=case.images[kept], masks=case.masks[kept])


Asked = tuple[tuple[str, ...], npt.NDArray[np.uint8]]


def _asked(
    segmenter: Segmenter,
    data: Path,
    task: Task,
    case: Case,
    number: int,
    supports: int,
    pools: dict[refusal.Stranger, list[Case]],
) -> Iterator[tuple[Kind, Asked, SupportSet | PreparedSupport]]:
    """Yield for one target its objects with their truth, and the supports, of every kind."""
    own: Asked = (case.objects, case.masks)
    pairs = draw_pairs(task.pool, case, supports, 0)
    if len(pairs) == supports:
        yield Kind.SAME, own, support_set(pairs, case)
        nothing: Asked = (case.objects, np.zeros_like(case.masks))
        yield Kind.EMPTIED, nothing, prepare_emptied(segmenter, support_set(pairs, case))
    for sister in SISTERS:
        if sister.dataset != task.dataset or sister.object not in task.objects:
            continue
        asked = only(case, (sister.object,))
        pool = _pool(data, sister)
        foreign = draw_pairs(pool, replace(asked, objects=(sister.support_object,)), supports, 0) if pool else []
        if len(foreign) == supports:
            yield Kind.SISTER, (asked.objects, asked.masks), support_set(foreign, asked)
    others = [one for one in pools if task.dataset not in (one.dataset, *one.unlike)]
    stranger = others[number % len(others)] if others else None
    if stranger is not None:
        empty: Asked = ((stranger.object,), np.zeros_like(case.masks[:, :1]))
        asked = replace(case, objects=empty[0], masks=empty[1])
        foreign = draw_pairs(pools[stranger], asked, supports, 0)
        if len(foreign) == supports:
            yield Kind.STRANGER, empty, support_set(foreign, asked)


def _pool(data: Path, sister: Sister) -> list[Case]:
    """Return the training cases of a sister set that show the object; none if the set is not there."""
    cases = refusal.training_cases(data, sister.supports)
    return [case for case in (only(one, (sister.support_object,)) for one in cases) if case.masks.any()]


def _samples(
    segmenter: Segmenter,
    task: Task,
    kind: Kind,
    case: Case,
    support: SupportSet | PreparedSupport,
    encoded: dict[int, EncodedSlices],
) -> list[Sample]:
    """Segment a target and return its samples."""
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    result = segmenter.segment(case.images, support, spacing_mm=spacing, encoded=encoded)
    assert result.evidence is not None
    samples = []
    for n, name in enumerate(case.objects):
        masks, truth = result.probability[:, n] > 0.5, case.masks[:, n]
        for index, score in enumerate(dice_per_slice(truth, masks)):
            samples.append(
                Sample(
                    kind=kind,
                    dataset=task.dataset,
                    unit=task.unit(case),
                    object=name,
                    evidence=result.evidence[index, n],
                    shown=bool(truth[index].any()),
                    drawn=bool(masks[index].any()),
                    dice=float(score),
                )
            )
    return samples
