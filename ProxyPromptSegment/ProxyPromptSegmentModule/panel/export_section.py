"""The export of the result section: the result of the selected target as DICOM SEG."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer.util

from ProxyPromptSegmentLib.imaging.dicom_seg import DICOM_SEG_SUFFIX
from ProxyPromptSegmentModule.panel.file_names import safe_name
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.shown_result import ShownResult
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import ResultWidgets
from ProxyPromptSegmentModule.scene.dicom_export import dicom_files_of, export_results
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say


class ExportSection(Section):
    """The button that writes the result of the selected target into a file for a picture archive."""

    def __init__(self, widgets: ResultWidgets, state: PanelState, found: ShownResult) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets.
            state: The shared state.
            found: The result of the selected target.
        """
        self._ui, self._state, self._found = widgets, state, found
        widgets.exportButton.connect("clicked()", self.on_export)

    def refresh(self) -> None:
        """Show whether there is anything to export."""
        nothing = "" if self._found.now() is not None else _("There is no result yet; press Apply.")
        if nothing and self._found.is_film:
            nothing = _("Not available for sequences.")
        running = _("Wait for the end of the run.") if self._state.running else ""
        tip = _(
            "Writes the result into a DICOM file that refers to the images of the target, which must be loaded from "
            "DICOM. The file contains the patient's name and number, as the images do."
        )
        allow(self._ui.exportButton, nothing or running, tip)

    def on_export(self) -> None:
        """Ask for a file and write the result."""
        now, node, target = self._found.now(), self._state.segmentation, self._state.parameters.targetVolume
        if now is None or node is None or target is None:
            return
        with said_in(self._ui.resultMessageLabel):
            dicom_files_of(target)  # before a name is asked for
            name = safe_name(_("{name} segmentation").format(name=target.GetName())) + DICOM_SEG_SUFFIX
            path = qt.QFileDialog.getSaveFileName(
                slicer.util.mainWindow(), _("Export as DICOM SEG"), name, _("DICOM (*.dcm)")
            )
            if not path:
                return
            file = Path(path if path.lower().endswith(DICOM_SEG_SUFFIX) else path + DICOM_SEG_SUFFIX)
            with slicer.util.WaitCursor():
                notes = export_results(node, target, list(now.names), file)
            say(self._ui.resultMessageLabel, "\n".join([_("Written to {file}.").format(file=file), *notes]))
