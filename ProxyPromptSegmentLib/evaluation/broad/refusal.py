"""Refusals: supports that show another organ, or whose masks are empty; nothing must be drawn, with a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.small_sets import load_small_set, small_set_names
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.evaluation.broad.answers import Answer, Encoded, ask
from ProxyPromptSegmentLib.evaluation.broad.records import Record, SliceScores
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.evaluation.broad.tasks import Task, only
from ProxyPromptSegmentLib.evaluation.conditions import prepare_emptied
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

NAME = "nothing drawn"
FOREIGN, EMPTIED, PROGRAM = "support of another organ", "emptied masks, the model", "emptied masks, the program"
SMALL_TARGETS = 3  # images of each small set
MANY_TARGETS = 40  # from so many targets on, each is tried with the supports of one set, else of three


@dataclass(frozen=True)
class Stranger:
    """An object that surely is not on the targets of other sets.

    Attributes:
        dataset: Its data set.
        object: Its name.
        unlike: Sets whose targets may show it, or something much like it.
    """

    dataset: str
    object: str
    unlike: tuple[str, ...] = ()


EYES = ("drishti_gs", "drive", "hrf_fundus", "fives_fundus", "idrid_disc", "idrid_exudates")
PELVES = ("promise12", "prostate158", "bladder_mri", "uwm_gi_mri", "bone_mets_ct", "curvas_ct_abdomen")
GUTS = ("endoscene", "colondb", "kvasir_polyp")
STRANGERS = (
    Stranger("promise12", "prostate", PELVES),
    Stranger("drishti_gs", "optic disc", EYES),
    Stranger("psfhs", "fetal head", ("psfhs",)),
    Stranger("ccaus_video", "vessel", ("ccaus_video", *EYES, "hepatic_vessel_ct")),
    Stranger("kvasir_polyp", "polyp", GUTS),
    Stranger("jtsc_wbc", "nucleus", ("jtsc_wbc", "cellavision_wbc", "krd_wbc_smear", "rbc_smear")),
)


def strangers(data: Path) -> dict[Stranger, list[Case]]:
    """Return the training cases of each stranger whose set is there."""
    cases = {one: training_cases(data, one.dataset) for one in STRANGERS}
    return {one: [only(case, (one.object,)) for case in mine] for one, mine in cases.items() if mine}


def training_cases(data: Path, name: str) -> list[Case]:
    """Return the training cases of a first or a small set; none if its folder is not there."""
    if name in small_set_names(data):
        return load_small_set(data, name).parts["train"]
    return split(load_dataset(data, name), name).train if (data / name).is_dir() else []


def score_foreign(
    segmenter: Segmenter,
    task: Task,
    number: int,
    supports: int,
    pools: dict[Stranger, list[Case]],
    encoded: Encoded | None = None,
) -> list[Record]:
    """Return for one target whether nothing is drawn with supports of other organs.

    Args:
        segmenter: The model.
        task: The task.
        number: Index of the target; it also decides which other organs are tried.
        supports: ``K``.
        pools: The result of `strangers`.
        encoded: Embeddings of the target's slices.
    """
    case = task.targets[number]
    others = [one for one in pools if task.dataset not in (one.dataset, *one.unlike)]
    count = 1 if task.small or len(task.targets) >= MANY_TARGETS else min(3, len(others))
    encoded, records = {} if encoded is None else encoded, []
    for turn in range(count):
        one = others[(number * count + turn) % len(others)]
        asked = replace(case, objects=(one.object,), masks=np.zeros_like(case.masks[:, :1]))
        pairs = draw_pairs(pools[one], asked, supports, 0)
        if len(pairs) == supports:
            answer = ask(segmenter, asked, support_set(pairs, asked), encoded)
            records += _records(task, case, FOREIGN, supports, turn, answer, f"{one.dataset}, {one.object}")
    return records


def score_emptied(
    segmenter: Segmenter, task: Task, case: Case, supports: int, encoded: Encoded | None = None
) -> list[Record]:
    """Return for one target whether nothing is drawn with emptied masks, by the model and by the program.

    The program refuses a support without any marked pixel before the model is asked; that counts as nothing drawn.
    """
    pairs = draw_pairs(task.pool, case, supports, 0)
    if len(pairs) < supports:
        return []
    answer = ask(segmenter, case, prepare_emptied(segmenter, support_set(pairs, case)), encoded)
    return [
        *_records(task, case, EMPTIED, supports, 0, answer),
        *_records(task, case, PROGRAM, supports, 0, _ask_emptied(segmenter, case, pairs, encoded)),
    ]


def _ask_emptied(
    segmenter: Segmenter, case: Case, pairs: Sequence[SupportPair], encoded: Encoded | None
) -> Answer | None:
    """Return the program's answer to supports with empty masks; None where it refuses them."""
    try:
        emptied = tuple(replace(pair, masks=np.zeros_like(pair.masks)) for pair in pairs)
        return ask(segmenter, case, SupportSet(emptied, case.objects), encoded)
    except SupportError:
        return None


def _records(
    task: Task, case: Case, condition: str, supports: int, draw: int, answer: Answer | None, note: str = ""
) -> list[Record]:
    """Return one record: 1 if nothing is drawn on any slice for any object, and the program says so.

    None stands for a refusal, which is a sentence by itself.
    """
    slices: SliceScores = {}
    said = answer is None or answer.notes > 0
    if answer is None:
        drawn, note = np.zeros(len(case.images), bool), "refused"
    else:
        drawn = np.array([mask.any() for mask in answer.masks])
        # Nothing that was asked for is on any slice.
        slices = {"truth": [0] * len(drawn), "presence": answer.presence.max(axis=1).round(4).tolist()}
    return [
        Record(
            measure=NAME,
            dataset="small sets" if task.small else task.dataset,
            object="any" if task.small else " + ".join(task.objects),
            condition=condition,
            supports=supports,
            draw=draw,
            case=f"{task.dataset} {case.name}" if task.small else case.name,
            patient=f"{task.dataset} {task.unit(case)}" if task.small else task.unit(case),
            score=float(said and not drawn.any()),
            slices={**slices, "drawn": [int(one) for one in drawn]},
            note=note,
        )
    ]
