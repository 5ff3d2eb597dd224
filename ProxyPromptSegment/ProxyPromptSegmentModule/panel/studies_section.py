"""The button that segments the ticked cases alike, and how far that is."""

from __future__ import annotations

from typing import Protocol

import qt
import slicer

from ProxyPromptSegmentModule.panel.case_words import progress_words, words_of_end
from ProxyPromptSegmentModule.panel.chosen_cases import ChosenCases
from ProxyPromptSegmentModule.panel.chosen_folder import ChosenFolder
from ProxyPromptSegmentModule.panel.requests import Requests
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import CasesWidgets
from ProxyPromptSegmentModule.runs.folder_request import FolderRequest
from ProxyPromptSegmentModule.runs.folder_studies import FolderStudies
from ProxyPromptSegmentModule.runs.pump import Pump
from ProxyPromptSegmentModule.runs.studies import Studies, StudiesRequest
from ProxyPromptSegmentModule.runs.study_list import StudyList
from ProxyPromptSegmentModule.scene.slice_views import show_only_own, volume_on_screen
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say


class SegmentsStudies(Protocol):
    """The part of `SegmentationLogic` that segments many studies."""

    pump: Pump

    def segment_all(self, request: StudiesRequest) -> Studies:
        """Begin with images of the scene."""

    def segment_folder(self, request: FolderRequest) -> FolderStudies:
        """Begin with studies of a folder."""


class StudiesSection(Section):
    """The button below the list of cases, which becomes Cancel, and the progress of the studies."""

    def __init__(
        self,
        widgets: CasesWidgets,
        state: PanelState,
        chosen: ChosenCases,
        folder: ChosenFolder,
        requests: Requests,
        logic: SegmentsStudies,
    ) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets below the list of cases.
            state: The shared state.
            chosen: The cases.
            folder: What the studies of a folder are segmented with.
            requests: The requests that the choices make.
            logic: The logic.
        """
        self._ui, self._state, self._chosen, self._requests, self._logic = widgets, state, chosen, requests, logic
        self._folder = folder
        self._seen: tuple[object, ...] = ()
        self._cancelling = self._due = False
        self._written: slicer.vtkMRMLSegmentationNode | None = None
        widgets.segmentCasesButton.connect("clicked()", self.on_button)
        say(widgets.casesMessageLabel, "")
        widgets.casesProgressBar.setVisible(False)

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show whether the ticked cases can be segmented, and how far that is."""
        ui, studies, going = self._ui, self._state.studies, bool(self._state.segmenting)
        self._cancelling = self._cancelling and going
        ui.casesProgressBar.setVisible(going)
        button = ui.segmentCasesButton
        if going:
            button.text = _("Cancel")
            button.enabled = not self._cancelling
            button.toolTip = _("Stops after the slice that is being computed; what is done is kept.")
            return
        count = len(self._chosen.ticked())
        button.text = self._words(count)
        if studies is not None and studies.open:
            button.text = _("Continue: {count} to do").format(count=studies.open)
        reason = self._requests.reason_for_studies()
        if self._state.folder is not None:
            reason = reason or self._folder.reason()
        reason = reason or ("" if count else _("Tick at least one case in the list."))
        tip = _(
            "Segments the ticked cases one after another with the supports or classes, the model and the settings "
            "above. Accepted results and what you have changed stay as they are."
        )
        if self._state.folder is not None:
            tip = _(
                "Segments the ticked studies one after another into the folder of the results, with the supports or "
                "classes, the model and the settings above. What is done is not done again."
            )
        supports = self._chosen.supports()
        if supports and self._state.folder is None:
            tip += " " + _("Supports are not segmented: {names}.").format(names=", ".join(supports))
        allow(button, reason, tip)

    def _words(self, count: int) -> str:
        """Return what the button does: with a folder, how many studies are still to be done."""
        folder = self._state.folder
        if folder is None:
            return _("Segment 1 case") if count == 1 else _("Segment {count} cases").format(count=count)
        rows = [folder.row(case.key) for case in self._chosen.ticked()]
        left = sum(row is not None and not row.state.is_done for row in rows)
        if 0 < left < count:
            return _("Segment {left} of {count} studies").format(left=left, count=count)
        return _("Segment 1 study") if count == 1 else _("Segment {count} studies").format(count=count)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_button(self) -> None:
        """Begin, or cancel what is in progress."""
        studies: StudyList | None = self._state.studies
        if self._state.segmenting and studies is not None:
            self._cancelling = True
            studies.cancel()
            self._logic.pump.start()
            say(self._ui.casesMessageLabel, _("Stopping after this slice…"))
            self._state.changed.emit()
            return
        say(self._ui.casesMessageLabel, "")
        with said_in(self._ui.casesMessageLabel):
            opened = self._state.folder
            if opened is not None:
                studies = self._logic.segment_folder(self._folder.request(opened))
            else:
                studies = self._logic.segment_all(self._chosen.request(self._requests.for_studies))
            self._state.studies, self._seen = studies, ()
            studies.observe(self.on_studies)
            self.on_studies(studies)
        self._state.changed.emit()

    def on_studies(self, studies: StudyList) -> None:
        """Show a change of the studies; called many times a second, so it has to be fast."""
        if studies is not self._state.studies or not self._state.has_scene:
            return
        bar, how = self._ui.casesProgressBar, studies.how_far()
        bar.maximum, bar.value = (how.total, how.number - 1) if how is not None else (1, 0)
        bar.format = progress_words(studies).replace("%", "%%")
        written = studies.written if isinstance(studies, Studies) else None
        seen = (tuple(studies.states()), written, studies.ended)
        if seen == self._seen:
            return
        self._seen = seen
        if written is not None and written is not self._written:
            self._written = written  # the result of another case is not to lie over the one on screen
            shown = volume_on_screen(slicer.mrmlScene) or self._state.parameters.targetVolume
            if shown is not None:
                show_only_own(slicer.mrmlScene, shown, self._state.support_rows())
        if not self._due:  # in a turn of its own, so that the window lives between the two
            self._due = True
            qt.QTimer.singleShot(0, self._show_changes)

    def _show_changes(self) -> None:
        """Show which studies have ended since."""
        self._due, studies = False, self._state.studies
        if studies is None or not self._state.has_scene:
            return
        if isinstance(studies, FolderStudies) and self._state.folder is not None:
            self._state.folder.follow(studies.rows)
        self._chosen.sort()
        if studies.ended:
            say(self._ui.casesMessageLabel, words_of_end(studies))
        if not (isinstance(studies, Studies) and self._know_results(studies)):
            self._state.changed.emit()

    def _know_results(self, studies: Studies) -> bool:
        """Make the results of studies that are done known to the sections that review and undo results.

        Returns:
            Whether the panel was shown again by that, because one of them is the target.
        """
        parameters, shown = self._state.parameters, False
        for study in studies.studies:
            run = study.run
            if run is None or not run.ended or run.left_out is not None or run.segmentation is None:
                continue
            if not self._state.learn_run(run) or study.node is not parameters.targetVolume:
                continue
            if parameters.outputSegmentation is not run.segmentation:
                parameters.outputSegmentation, shown = run.segmentation, True
        return shown
