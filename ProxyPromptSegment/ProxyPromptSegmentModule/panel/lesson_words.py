"""What a lesson says: its stages, and how it ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.training.adapting.result import LEAST_GAIN
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import duration

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.training.adapting.result import AdaptResult
    from ProxyPromptSegmentModule.runs.lesson import Lesson


def words_of_stage(what: str) -> str:
    """Return the words for a stage of the library."""
    fold = re.fullmatch(r"(training|testing) fold (\d+) of (\d+)", what)
    if fold is not None:
        told = _("Training {number} of {count}, without the cases that test it")
        if fold[1] == "testing":
            told = _("Testing {number} of {count} on cases that it has not seen")
        return told.format(number=fold[2], count=fold[3])
    known = {
        "embedding": _("Reading slices"),
        "testing before": _("Testing the model as it is"),
        "timing the first steps": _("Timing the first steps"),
        "embedding variants": _("Making variants of the slices"),
        "training on all cases": _("Last training, on all cases"),
        "checking the cases": _("Checking the cases"),
    }
    return known.get(what, what)


def words_of_end(lesson: Lesson) -> str:
    """Return the sentences for the end of a lesson."""
    lines = list(lesson.sentences)
    if lesson.state == RunState.FAILED:
        lines.append(lesson.error)
        if lesson.progress is not None and lesson.stored:
            lines.append(_("What was learned until it was last stored is kept: press Continue once that is mended."))
    elif lesson.state == RunState.CANCELLED:
        lines.append(_words_of_cancel(lesson))
    elif lesson.result is not None:
        lines += _words_of_result(lesson.result)
    else:
        lines += _words_of_check(lesson)
    return "\n".join(lines)


def _words_of_cancel(lesson: Lesson) -> str:
    if lesson.progress is None or not lesson.stored:
        return _("Cancelled before anything was trained.")
    tested = [score for score in lesson.progress.scores if score.after]
    total = len(lesson.progress.scores)
    told = _("Cancelled. What was learned so far is kept ({tested} of {total} cases tested), but is no model yet:")
    return (told + " " + _("press Continue to resume there with the same cases.")).format(
        tested=len(tested), total=total
    )


def _words_of_check(lesson: Lesson) -> list[str]:
    """Return what a check found out, and what to do about it."""
    lines = [
        _("“{name}”: {reason}").format(name=name, reason=f"{reason.rstrip('.')}.") if name else reason
        for name, reason in lesson.said
    ]
    count = _("{cases} cases of {patients} patients can be learned from.").format(
        cases=len(lesson.usable), patients=lesson.patients
    )
    if lesson.asks:
        return [*lines, count + " " + _("Nothing was trained yet; press “Teach anyway” to continue with them.")]
    return [*lines, count]


def _words_of_result(result: AdaptResult) -> list[str]:
    verdict = result.verdict
    if verdict is None:
        return [_("“{name}” is kept; it could not be tested.").format(name=result.name)]
    figures = {
        "before": f"{verdict.before:.3f}",
        "after": f"{verdict.after:.3f}",
        "copied": f"{verdict.mean_mask:.3f}",
        "name": result.name,
        "time": duration(result.seconds),
    }
    told = _(
        "Better: mean Dice of cases that were left out {before} before, {after} after; the copied mean mask has "
        "{copied}. Kept as “{name}” after {time}."
    )
    if not verdict.better:
        told = _(
            "Not better: mean Dice of cases that were left out {before} before, {after} after ({gain} more is needed); "
            "the copied mean mask has {copied}."
        )
        kept = _("Kept as “{name}” anyway.") if result.kept else _("Nothing was kept.")
        told = f"{told} {kept}"
    lines = [told.format(gain=f"{LEAST_GAIN:g}", **figures)]
    if verdict.mean_mask > verdict.after:
        lines.append(
            _(
                "The copied mean mask is better than the model: this structure lies in the same place in all cases, "
                "and the model has not learned more than that."
            )
        )
    return lines
