"""The report on a user's own cases: the answer first, then tables, charts, pictures, and how it was measured."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from ProxyPromptSegmentLib.evaluation.cases.measure import ScoresFile, unit_of, units_of
from ProxyPromptSegmentLib.evaluation.cases.plan import CasesPlan, OwnCase
from ProxyPromptSegmentLib.evaluation.cases.verdict import Verdict
from ProxyPromptSegmentLib.evaluation.report.page import Chapter, Grid, Panels, Part, Words
from ProxyPromptSegmentLib.evaluation.report.panels import Panel
from ProxyPromptSegmentLib.evaluation.report.standard import confidence_parts, grid_of, spread_parts
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.tables import table_of
from ProxyPromptSegmentLib.support.case_files import Unusable


def scores_in(wanted: CasesPlan, file: ScoresFile) -> list[Score]:
    """Return the scores of a plan, in its order, whatever else the file holds."""
    return [
        score
        for candidate, k, _ in wanted.systems()
        for target in wanted.cases
        for draw in wanted.draws_of(target, k)
        for score in file.of(unit_of(candidate, k, draw, target))
    ]


def chapters_of_cases(
    wanted: CasesPlan,
    file: ScoresFile,
    found: Verdict,
    left_out: Sequence[Unusable] = (),
    failures: Mapping[str, str] | None = None,
) -> list[Chapter]:
    """Return the chapters of the report.

    Args:
        wanted: What was measured.
        file: Its scores and pictures.
        found: The answer.
        left_out: Cases that could not be used, and why.
        failures: Cases that could not be segmented with some supports, and why.
    """
    scores = scores_in(wanted, file)
    shown = found.system or next(
        name for one, k, name in wanted.systems() if (one, k) == (found.candidate, found.supports)
    )
    return [
        Chapter("", [Words(found.paragraphs, lead=True)]),
        Chapter("Best, middle and worst case", _pictures(wanted, file, found)),
        Chapter("All models and numbers of supports", [grid_of(table_of(scores, shown), shown)]),
        *_details(wanted, scores, left_out, failures or {}),
    ]


def chapters_so_far(
    wanted: CasesPlan,
    file: ScoresFile,
    left_out: Sequence[Unusable] = (),
    failures: Mapping[str, str] | None = None,
) -> list[Chapter]:
    """Return the chapters of a measurement that was stopped: its scores, marked as incomplete, and no answer.

    Args:
        wanted: What was to be measured.
        file: Its scores so far.
        left_out: See `chapters_of_cases`.
        failures: See `chapters_of_cases`.
    """
    scores, units = scores_in(wanted, file), units_of(wanted)
    done = sum(file.has(unit_of(*unit)) for unit in units)
    said = [
        f"Incomplete: {done} of {len(units)} masks were measured when this was stopped.",
        "Models and numbers of supports were measured one after another, so that their means may be of different "
        "cases: do not choose by them. The same command measures the rest, and this report is then replaced by the "
        "answer.",
    ]
    return [
        Chapter("", [Words(said, lead=True)]),
        Chapter("All models and numbers of supports, so far", [grid_of(table_of(scores))]),
        *_details(wanted, scores, left_out, failures or {}),
    ]


def _details(
    wanted: CasesPlan, scores: Sequence[Score], left_out: Sequence[Unusable], failures: Mapping[str, str]
) -> list[Chapter]:
    """Return the chapters below the answer."""
    return [
        Chapter("Each case", [_each_case(wanted, scores)]),
        Chapter("Spread over patients", spread_parts(scores)),
        Chapter("Does the model know how good it is?", confidence_parts(scores)),
        Chapter("How this was measured", _method(wanted, left_out, failures)),
    ]


def _pictures(wanted: CasesPlan, file: ScoresFile, found: Verdict) -> list[Part]:
    """Return the best, the middle and the worst case of the recommended system, as its first draw shows them."""
    rated: list[tuple[float, str, OwnCase]] = []
    for case in wanted.cases:
        unit = unit_of(found.candidate, found.supports, 0, case)
        scores = file.of(unit)
        if scores and "jpeg" in file.about(unit):
            rated.append((float(np.mean([score.dice for score in scores])), case.name, case))
    if not rated:
        return []
    rated.sort(key=lambda one: one[:2])
    words = {"best": rated[-1], "middle": rated[len(rated) // 2], "worst": rated[0]}
    panels = []
    for word, (_, name, case) in words.items():
        unit = unit_of(found.candidate, found.supports, 0, case)
        about = file.about(unit)
        dice = ", ".join(f"{score.object} {score.dice:.2f}" for score in file.of(unit))
        panels.append(Panel(base64.b64decode(about["jpeg"]), f"{word}: {name}, slice {about['slice']}. Dice: {dice}"))
    title = "White: your annotation. In colours: the model. Slices are counted from 0; Dice is that of the whole case."
    return [Panels(title, panels)]


def _each_case(wanted: CasesPlan, scores: Sequence[Score]) -> Grid:
    """Return the mean Dice of each case and object by each system."""
    systems = [name for _, _, name in wanted.systems()]
    by_place: dict[tuple[str, str, str], list[float]] = {}
    for score in scores:
        by_place.setdefault((score.case, score.object, score.system), []).append(score.dice)
    rows = []
    for case in wanted.cases:
        for name in wanted.objects:
            found = [by_place.get((case.name, name, system)) for system in systems]
            if any(found):
                rows.append([case.name, case.patient, name, *(f"{np.mean(one):.3f}" if one else "-" for one in found)])
    return Grid(("case", "patient", "object", *systems), rows, 3, caption="Dice, the mean over the draws of supports.")


def _method(wanted: CasesPlan, left_out: Sequence[Unusable], failures: Mapping[str, str]) -> list[Part]:
    unit = "millimetres" if wanted.in_mm else "pixels, slice by slice"
    draws = "once" if wanted.draws == 1 else f"{wanted.draws} times"
    partly = [case.name for case in wanted.cases if case.slices is not None]
    said = [
        f"{len(wanted.cases)} cases of {wanted.patients} patients. Each case was segmented as any image is, "
        "with cases of other patients as supports, never of its own. Images that are the same count once.",
        f"Supports were drawn {draws} for each case (seed {wanted.seed}), and the draws averaged; only once "
        "where all other cases are supports. A support is a whole annotated case. The copied mean mask is the mean of "
        "the supports' masks, copied onto every slice without a look at the image.",
        f"Distances are in {unit}. The recommended model is the best of {len(wanted.candidates)}, chosen on the "
        "patients that it is reported on, which flatters it a little.",
    ]
    if partly:
        said.append(
            f"Only annotated slices were measured in {', '.join(partly)}: these do not follow one another, so that "
            "nobody knows what the others show."
        )
    models = [f"{one.name}: weights {one.sha256[:12]}" for one in wanted.candidates]
    said.append(f"Models: {'; '.join(models)}. Objects: {', '.join(wanted.objects)}.")
    said += [f"Left out: {one.name}: {one.reason}" for one in left_out]
    said += [f"Not segmented with some supports: {name}: {reason}" for name, reason in failures.items()]
    return [Words(said)]
