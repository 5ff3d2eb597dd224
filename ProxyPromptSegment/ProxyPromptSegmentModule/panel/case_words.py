"""The words of a case in the list of cases, and of studies that are segmented together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ProxyPromptSegmentModule.states import CaseState, RunState, StudyState
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import duration, sentence

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.runs.study_list import StudyList
    from ProxyPromptSegmentModule.scene.case_briefs import Found

_LONGEST_NAME = 18
"""Letters of a name that fit into the progress bar beside the numbers."""


def word_of(state: CaseState) -> str:
    """Return the state of a case in words."""
    return {
        CaseState.NEW: _("new"),
        CaseState.SEGMENTED: _("segmented"),
        CaseState.CORRECTED: _("corrected"),
        CaseState.ACCEPTED: _("accepted"),
    }[state]


def word_of_study(state: StudyState) -> str:
    """Return what became of a study in words; "" if the state of its case says it."""
    return {
        StudyState.WAITING: _("waiting"),
        StudyState.RUNNING: _("being segmented"),
        StudyState.INCOMPLETE: _("not everything found"),
        StudyState.EMPTY: _("nothing found"),
        StudyState.FAILED: _("failed"),
        StudyState.LEFT_OUT: _("left out"),
    }.get(state, "")


def words_of_found(found: Sequence[Found]) -> str:
    """Return in one line what was found in a case."""
    parts = []
    for one in found:
        if not one.volume_ml:
            parts.append(_("{name}: nothing").format(name=one.name))
            continue
        words = _("{name} {volume} ml, confidence {sure}") if one.confidence is not None else _("{name} {volume} ml")
        sure = f"{one.confidence:.2f}" if one.confidence is not None else ""
        parts.append(words.format(name=one.name, volume=f"{one.volume_ml:.3g}", sure=sure))
    return "; ".join(parts)


def progress_words(studies: StudyList) -> str:
    """Return in one line how far studies are."""
    how = studies.how_far()
    if how is None:
        return sentence(studies.what)
    name = how.name if len(how.name) <= _LONGEST_NAME else how.name[: _LONGEST_NAME - 1] + "…"
    text = _("{number} of {total}, {name}").format(number=how.number, total=how.total, name=name)
    if how.slices > 1:  # other stages have a single step
        text += _(": slice {done} of {all}").format(done=how.done, all=how.slices)
    if studies.seconds_left is not None:
        text += _(", {time} left").format(time=duration(studies.seconds_left))
    return text


def words_of_end(studies: StudyList) -> str:
    """Return the sentences for the end of studies."""
    done = studies.count(StudyState.DONE, StudyState.INCOMPLETE, StudyState.EMPTY)
    counted = [_("{count} segmented").format(count=done)]
    for states, words in (
        ((StudyState.EMPTY,), _("in {count} of them nothing was found")),
        ((StudyState.BEFORE,), _("{count} done before with the same inputs")),
        ((StudyState.FAILED,), _("{count} failed")),
        ((StudyState.LEFT_OUT,), _("{count} left out")),
        ((StudyState.WAITING, StudyState.RUNNING), _("{count} still to do")),
    ):
        count = studies.count(*states)
        if count:
            counted.append(words.format(count=count))
    lines = list(studies.sentences)
    if studies.state is RunState.FAILED:
        lines.append(studies.error)
    begun = _("Cancelled") if studies.state is RunState.CANCELLED else _("Finished")
    if studies.state is RunState.FAILED:
        begun = _("Stopped")
    lines.append(_("{begun}: {counts}.").format(begun=begun, counts=", ".join(counted)))
    if studies.count(StudyState.WAITING, StudyState.RUNNING) and not studies.abandoned:
        lines.append(_("What is done is kept; press Continue for the others."))
    elif done:
        lines.append(_("Those to look at first are at the top of the list."))
    return "\n".join(lines)
