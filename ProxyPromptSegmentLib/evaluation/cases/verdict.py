"""The answer in plain words: which model, how many supports, is it good enough, and what so few patients can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.evaluation.cases.plan import COPIED, Candidate, CasesPlan, system_name
from ProxyPromptSegmentLib.evaluation.statistics.intervals import LEAST, ends, with_interval
from ProxyPromptSegmentLib.evaluation.statistics.paired import LEAST_PATIENTS, Paired, holm, paired
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.summaries import ALL_OBJECTS, RESAMPLES, lines_of
from ProxyPromptSegmentLib.evaluation.statistics.tables import p_text
from ProxyPromptSegmentLib.imaging.metrics import Summary, summarize

WORTH = 0.01
"""Mean Dice that another support must add to be worth its work."""
USABLE, GOOD = 0.7, 0.85
"""Mean Dice from which a mask is a draft to correct, and a good one; by convention, whatever the structure."""
FEW, SOME = 6, 15
"""Numbers of patients below which an interval says little, and below which it is wide."""
Patients = Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """What the scores say.

    Attributes:
        system: The recommended system; "" where none is better than copying the supports' mean mask.
        candidate: Its model.
        supports: Its number of supports.
        paragraphs: The answer, the shortest first.
    """

    system: str
    candidate: Candidate
    supports: int
    paragraphs: tuple[str, ...]


def verdict(wanted: CasesPlan, scores: Sequence[Score]) -> Verdict:
    """Return the answer.

    Args:
        wanted: What was measured.
        scores: All scores of it; at least one of each system.
    """
    several = len(wanted.objects) > 1
    means = {
        line.system: line.patients
        for line in lines_of(scores)
        if line.object == (ALL_OBJECTS if several else line.object)
    }
    # A patient who could not be segmented with some supports must not make these look better.
    shared = set.intersection(*(set(patients) for patients in means.values()))
    if shared:
        means = {system: {one: patients[one] for one in sorted(shared)} for system, patients in means.items()}
    best, k = _chosen(wanted, means)
    name = system_name(best, k)
    copied = max((system_name(COPIED, n) for n in wanted.supports), key=lambda one: _mean(means[one]))
    summary = summarize([means[name][one] for one in sorted(means[name])], draws=RESAMPLES)
    patients = len(means[name])
    over = f"on {_patients(patients)}" + (", averaged over the objects" if several else "")
    useless = summary.mean <= _mean(means[copied])
    if useless:
        first = (
            "Use none of these models for these structures: copying the mean of the supports' masks onto the image is "
            f"as good (mean Dice {_mean(means[copied]):.2f}, the best model {summary.mean:.2f})."
        )
    else:
        first = f"Use {best.name} with {_counted(k)}: mean Dice {summary.mean:.2f} {over}. {_good_enough(summary)}"
    paragraphs = [
        first,
        _range(summary, means[name]),
        *_number_of_supports(wanted, means, best, k),
        *_other_models(wanted, means, best, k),
        *([] if useless else [_beside_copies(means[name], means[copied])]),
        enough_patients(patients),
    ]
    return Verdict("" if useless else name, best, k, tuple(one for one in paragraphs if one))


def enough_patients(count: int) -> str:
    """Return what a number of patients can show and cannot."""
    if count < FEW:
        if count < LEAST:
            return (
                f"{_patients(count)} {'says' if count == 1 else 'say'} next to nothing: no interval can be given, "
                "and the next one can be quite different. Annotate more patients before you rely on the numbers."
            )
        return (
            f"{count} patients say little: the next one can lie far outside of this interval, which is made of only "
            f"{count} values and too narrow, and no test over fewer than {LEAST_PATIENTS} patients can show that one "
            "model is better than another. Take the numbers as a first impression, and annotate more patients before "
            "you rely on them."
        )
    if count < SOME:
        return (
            f"{count} patients can show large differences and not small ones: the interval is wide, and a kind of "
            "patient that is not among them was not tested."
        )
    return (
        f"{count} patients give an interval that can be relied on for patients like these; from another scanner, "
        "hospital or disease they were not tested."
    )


def _chosen(wanted: CasesPlan, means: Mapping[str, Patients]) -> tuple[Candidate, int]:
    """Return the model with the highest mean, and the fewest supports with which it comes near to that."""
    best = max(wanted.candidates, key=lambda one: max(_mean(means[system_name(one, k)]) for k in wanted.supports))
    by_supports = {k: _mean(means[system_name(best, k)]) for k in wanted.supports}
    top = max(by_supports.values())
    return best, min(k for k, mean in by_supports.items() if mean > top - WORTH)


def _patients(count: int) -> str:
    return f"{count} patient{'' if count == 1 else 's'}"


def _good_enough(summary: Summary) -> str:
    """Return whether it is good enough, in a sentence."""
    if summary.count < FEW:
        sure = ", if more patients confirm it"
    elif summary.low >= (GOOD if summary.mean >= GOOD else USABLE):
        sure = ""
    else:
        sure = ", if the lower end of the interval is enough for you"
    if summary.mean >= GOOD:
        return f"That is good enough as a first contour that a person checks and corrects in places{sure}."
    if summary.mean >= USABLE:
        return f"That is good enough as a draft, of which most contours need correction{sure}."
    return "That is not good enough to use: most contours would have to be drawn again."


def _range(summary: Summary, patients: Patients) -> str:
    worst = min(sorted(patients), key=lambda one: patients[one])
    below = sum(value < USABLE for value in patients.values())
    counted = f"{below or 'none'} of {summary.count} {'is' if below < 2 else 'are'}"
    sure = ends(summary)
    spread = ""
    if sure is not None:
        spread = f"The mean of all patients like these lies between {sure[0]:.2f} and {sure[1]:.2f} (95 % interval). "
    return (
        f"{spread}The worst patient, {worst}, has {patients[worst]:.2f}; {counted} below {USABLE:g}. The limits "
        f"{USABLE:g} and {GOOD:g} are conventions: a small structure never reaches the Dice of a large one, and "
        "what your work needs is yours to decide."
    )


def _number_of_supports(wanted: CasesPlan, means: Mapping[str, Patients], best: Candidate, chosen: int) -> list[str]:
    """Return what more supports add to the best model."""
    if len(wanted.supports) < 2:
        return []
    steps = []
    for fewer, more in zip(wanted.supports, wanted.supports[1:], strict=False):
        gain = paired(means[system_name(best, more)], means[system_name(best, fewer)])
        if gain is not None:
            steps.append(f"from {fewer} to {more} by {with_interval(gain, '+.3f')}")
    why = f" {chosen} are recommended because more add less than {WORTH:g}." if chosen < wanted.supports[-1] else ""
    return [f"Number of supports: the mean Dice of {best.name} changes {', '.join(steps)}.{why}"] if steps else []


def _other_models(wanted: CasesPlan, means: Mapping[str, Patients], best: Candidate, k: int) -> list[str]:
    """Return how the other models compare with the best one, with as many supports."""
    found = []
    for other in wanted.candidates:
        pair = paired(means[system_name(best, k)], means[system_name(other, k)]) if other != best else None
        if pair is not None:
            found.append((other, pair))
    corrected = holm([pair.p for _, pair in found])
    return [
        f"{other.name} reaches {_mean(means[system_name(other, k)]):.2f} with {_counted(k)}: {_difference(pair, p)}"
        for (other, pair), p in zip(found, corrected, strict=True)
    ]


def _beside_copies(ours: Patients, copied: Patients) -> str:
    pair = paired(ours, copied)
    if pair is None:
        return ""
    return (
        f"Copying the mean of the supports' masks, without a look at the image, reaches {_mean(copied):.2f}: "
        f"{_difference(pair, pair.p)} Only what the model adds to that comes from looking at the image."
    )


def _difference(pair: Paired, p: float) -> str:
    """Return a difference with its interval, and whether it was shown."""
    sure = ends(pair)
    size = f"{pair.mean:.2f} less" + (f" (95 % interval {_signed(sure[0])} to {_signed(sure[1])})" if sure else "")
    if pair.count < LEAST_PATIENTS:
        return f"{size}, which {_patients(pair.count)} cannot prove."
    said = "a difference that these patients show" if p < 0.05 else "not shown to be more than chance"
    return f"{size}, {said} (p {'' if p < 0.001 else '= '}{p_text(p)})."


def _signed(value: float) -> str:
    """Return a number with two decimals, without a zero that has a sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def _counted(supports: int) -> str:
    return f"{supports} {'support' if supports == 1 else 'supports'}"


def _mean(patients: Patients) -> float:
    return float(np.mean(list(patients.values()))) if patients else float("-inf")
