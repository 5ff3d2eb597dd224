"""The lesson section: how far a lesson is, what the folds say, and what becomes of the new model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import qt

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.training.adapting.result import CaseScore, worst_of
from ProxyPromptSegmentModule.panel.chosen_lesson import ChosenLesson, Teaches
from ProxyPromptSegmentModule.panel.icons import pixmap
from ProxyPromptSegmentModule.panel.lesson_pictures import curve, worst_case
from ProxyPromptSegmentModule.panel.lesson_words import words_of_end, words_of_stage
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import TeachWidgets
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, duration, explained, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.training.adapting.result import CasePicture, Verdict
    from ProxyPromptSegmentModule.runs.lesson import Lesson

_NOTHING: tuple[tuple[CaseScore, ...], None] = ((), None)
_MOST_SUPPORTS = 3
_ROW_HEIGHT, _MOST_ROWS = 24, 8


class LessonSection(Section):
    """Progress, scores, curve and worst case of the lesson; the buttons for its result."""

    def __init__(
        self,
        widgets: TeachWidgets,
        state: PanelState,
        chosen: ChosenLesson,
        logic: Teaches,
        reason: Callable[[], str],
    ) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets.
            state: The shared state.
            chosen: The choices of lessons.
            logic: Begins lessons.
            reason: Returns why Apply cannot be pressed; "" if it can.
        """
        self._ui, self._state, self._chosen, self._logic, self._reason = widgets, state, chosen, logic, reason
        self._scores: tuple[tuple[CaseScore, ...], Verdict | None] | None = None
        self._shown: CasePicture | None = None
        self._drawn: tuple[int, int] = (0, 0)
        self._told: Lesson | None = None
        self._of_use = ""
        self._ui.teachUseButton.connect("clicked()", self.on_use)
        self._ui.teachKeepButton.connect("clicked()", self.on_keep)
        self._show_nothing()

    def refresh(self) -> None:
        """Show the lesson, if there is one."""
        if self._state.lesson is None:
            self._show_nothing()
        else:
            self.show()

    def _show_nothing(self) -> None:
        ui = self._ui
        if self._told is None and self._scores == _NOTHING:
            return
        self._scores, self._shown, self._drawn, self._told = _NOTHING, None, (0, 0), None
        for widget in (
            ui.teachPhaseLabel,
            ui.teachProgressBar,
            ui.teachScoresTable,
            ui.teachCurveCaption,
            ui.teachCurveLabel,
            ui.teachPictureCaption,
            ui.teachPictureLabel,
            ui.teachUseButton,
            ui.teachKeepButton,
        ):
            widget.setVisible(False)

    def show(self) -> None:
        """Show how far the lesson is; called after every step of it, so it has to be fast."""
        lesson, ui = self._state.lesson, self._ui
        if lesson is None:
            return
        if lesson is not self._told:
            self._scores, self._shown, self._drawn, self._told = None, None, (0, 0), lesson
            self._of_use = ""
            say(ui.teachMessageLabel, "")
        ui.teachProgressBar.setVisible(not lesson.ended)
        if lesson.ended:
            say(ui.teachPhaseLabel, "")
        else:
            self._show_progress(lesson)
        self._show_scores(lesson)
        self._show_curve(lesson)
        self._show_picture(lesson)
        if lesson.ended:
            say(ui.teachMessageLabel, f"{words_of_end(lesson)}\n{self._of_use}")
        elif lesson.sentences:
            say(ui.teachMessageLabel, "\n".join(lesson.sentences))
        self._show_buttons(lesson)

    def _show_progress(self, lesson: Lesson) -> None:
        bar = self._ui.teachProgressBar
        bar.maximum, bar.value = lesson.total, lesson.done
        bar.format = _("{done} of {total}").format(done=lesson.done, total=lesson.total) if lesson.total else ""
        text = f"{words_of_stage(lesson.what)}."
        left = lesson.progress.seconds_left if lesson.progress is not None else None
        if left is not None:
            text += " " + _("About {time} left in all.").format(time=duration(left))
        say(self._ui.teachPhaseLabel, text)

    def _show_scores(self, lesson: Lesson) -> None:
        scores = _scores_of(lesson)
        verdict = lesson.result.verdict if lesson.result is not None else None
        if (scores, verdict) == self._scores:
            return
        self._scores = (scores, verdict)
        table = self._ui.teachScoresTable
        table.setVisible(bool(scores))
        if not scores:
            return
        worst = worst_of(scores)
        share = worst[1] if worst is not None else 0
        rows = [
            (one.name, _mean(one.before), _mean(one.after[share]) if one.after else "…", _mean(one.mean_mask))
            for one in scores
        ]
        if verdict is not None:
            rows.append((_("Mean"), f"{verdict.before:.3f}", f"{verdict.after:.3f}", f"{verdict.mean_mask:.3f}"))
        table.setRowCount(len(rows))
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Case"), _("Before"), _("After"), _("Mean mask")])
        for number, row in enumerate(rows):
            for place, value in enumerate(row):
                table.setItem(number, place, qt.QTableWidgetItem(value))
            table.setRowHeight(number, _ROW_HEIGHT)
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.minimumHeight = table.maximumHeight = _ROW_HEIGHT * (min(_MOST_ROWS, len(rows)) + 1) + 8

    def _show_curve(self, lesson: Lesson) -> None:
        drawn = (len(lesson.losses), sum(len(one) for one in lesson.losses.values()))
        if drawn == self._drawn:
            return
        self._drawn = drawn
        ui = self._ui
        for widget in (ui.teachCurveCaption, ui.teachCurveLabel):
            widget.setVisible(bool(drawn[1]))
        if drawn[1]:
            steps = lesson.total if lesson.progress is not None and lesson.progress.loss is not None else 0
            ui.teachCurveLabel.setPixmap(pixmap(curve(lesson.losses, steps)))
            say(ui.teachCurveCaption, _("Loss of each training over its steps; the latest in blue."))

    def _show_picture(self, lesson: Lesson) -> None:
        result, progress = lesson.result, lesson.progress
        shown = result.picture if result is not None else progress.picture if progress is not None else None
        if shown is self._shown:
            return
        self._shown = shown
        ui = self._ui
        for widget in (ui.teachPictureCaption, ui.teachPictureLabel):
            widget.setVisible(shown is not None)
        if shown is None:
            return
        ui.teachPictureLabel.setPixmap(pixmap(worst_case(shown)))
        scores = _scores_of(lesson)
        worst = worst_of(scores)
        score = next(one for one in scores if one.case == shown.case)
        value = _mean(score.after[worst[1] if worst is not None else 0])
        say(
            ui.teachPictureCaption,
            _(
                "Worst case: {name}, Dice {dice}; slice {number}. Left its annotation, right what a model found that "
                "had not seen it."
            ).format(name=score.name, dice=value, number=shown.index),
        )

    def _show_buttons(self, lesson: Lesson) -> None:
        ui, result = self._ui, lesson.result
        kept = result is not None and result.kept and self._chosen.knows(result.name)  # it may have been renamed
        worse = result is not None and not result.kept and not result.cancelled
        ui.teachUseButton.setVisible(kept)
        ui.teachKeepButton.setVisible(lesson.ended and worse)
        going = self._state.teaching
        allow(ui.teachUseButton, going, _("Selects the new model and segments the target with it."))
        allow(
            ui.teachKeepButton, going, _("Trains once more, on all cases, and keeps the model though it is not better.")
        )

    # --- what the user does -----------------------------------------------------------------------------------

    def on_keep(self) -> None:
        """Train the last time on all cases and keep the model, though it is not better."""
        lesson = self._state.lesson
        if lesson is None or not lesson.ended:
            return
        with said_in(self._ui.teachMessageLabel):
            request = replace(lesson.request, keep_anyway=True, restart=False, known=frozenset(lesson.said))
            self._chosen.follow(self._logic.teach(request))
        self._state.changed.emit()

    def on_use(self) -> None:
        """Select the new model and segment the target; what is missing for that is said."""
        lesson, state = self._state.lesson, self._state
        if lesson is None or lesson.result is None:
            return
        said: list[str] = []
        state.models_changed.emit()
        state.parameters.promptBy = PromptBy.SUPPORT.value
        state.parameters.model = lesson.result.name
        if not state.used_rows():
            said.append(self._add_supports(lesson))
        reason = self._reason()
        target = state.parameters.targetVolume
        if target is not None and any(one.volume is target for one in lesson.request.cases):
            said.append(
                _(
                    "‘{target}’ is one of the cases that it learned from: its result says nothing about new cases."
                ).format(target=target.GetName())
            )
        if reason:
            said.append(_("It is selected under Model. {reason}").format(reason=reason))
        self._of_use = "\n".join(said)
        if not reason:
            state.apply_wanted.emit()
        state.changed.emit()

    def _add_supports(self, lesson: Lesson) -> str:
        """Make some of the lesson's cases supports, because there are none; return a sentence about it."""
        table, target = self._state.table, self._state.parameters.targetVolume
        added: list[str] = []
        for case in lesson.request.cases:
            if table is None or len(added) == _MOST_SUPPORTS or case.title not in lesson.usable:
                continue
            try:
                if case.entry is not None:
                    table.add_library(case.entry)
                elif case.volume is not None and case.volume is not target:
                    table.add_nodes(case.volume, case.segmentation, [case.segment_id])
                else:
                    continue
            except ProxyPromptError as error:
                explained(error)
                continue
            added.append(case.title)
        if not added:
            return ""
        return _("There was no support, so that these cases are used: {names}.").format(names=", ".join(added))


def _scores_of(lesson: Lesson) -> tuple[CaseScore, ...]:
    """Return the latest scores."""
    if lesson.result is not None:
        return lesson.result.scores
    return lesson.progress.scores if lesson.progress is not None else ()


def _mean(values: tuple[float, ...]) -> str:
    return f"{float(np.mean(values)):.3f}"
