"""Which model, where it runs, and the way to get more of them."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import slicer.util

from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentModule.runs.pump import Pump
from ProxyPromptSegmentModule.scene.slice_views import AXES, slice_count
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, duration, said_in, say, size

_DEVICES = ("auto", "cpu", "cuda", "mps")


class ModelSection:
    """Model, axis, device, threshold, memory; download, import, remove.

    Attributes:
        rows: The models (`models.ModelRow`), those that can segment first; read anew by `look_again`.
    """

    def __init__(self, panel: Any) -> None:
        """Connects the widgets."""
        self.panel, self.ui = panel, panel.ui
        self.rows: list[Any] = []
        self._transfer: Any = None
        self._pump = Pump(self._poll)
        self._axes: list[str] = []
        ui = self.ui
        for name in (_("Automatic"), _("Processor (CPU)"), _("NVIDIA graphics card (CUDA)"), _("Apple graphics (MPS)")):
            ui.deviceCombo.addItem(name)
        ui.modelCombo.connect("currentIndexChanged(int)", self.on_model)
        ui.axisCombo.connect("currentIndexChanged(int)", self.on_axis)
        ui.deviceCombo.connect("currentIndexChanged(int)", self.on_device)
        ui.thresholdSlider.connect("valueChanged(double)", self.on_threshold)
        ui.followMemoryBox.connect("toggled(bool)", self.on_follow)
        ui.modelDownloadButton.connect("clicked()", self.on_download)
        ui.modelImportButton.connect("clicked()", self.on_import)
        ui.modelRemoveButton.connect("clicked()", self.on_remove)
        ui.modelCancelButton.connect("clicked()", self.on_cancel)
        say(ui.modelMessageLabel, "")

    def look_again(self) -> None:
        """Reads what is on this machine."""
        if self.panel.shelf is None:
            return
        with said_in(self.ui.modelMessageLabel):
            self.rows = self.panel.shelf.rows()
        with self.panel.quiet():
            self.ui.modelCombo.clear()
            for row in self.rows:
                self.ui.modelCombo.addItem(self._title(row))

    def _title(self, row: Any) -> str:
        amount = _(", {size}").format(size=size(row.bytes)) if row.bytes else ""
        return _("{name} ({state}{amount})").format(name=row.name, state=row.state, amount=amount)

    @property
    def row(self) -> Any:
        """The chosen model; None where nothing is known of it."""
        wanted = self.panel.parameters.model or DEFAULT_MODEL
        return next((row for row in self.rows if row.name == wanted), None)

    @property
    def follows(self) -> bool:
        """Whether the chosen model has a memory."""
        return self.row is not None and self.row.follows

    def reason(self) -> str:
        """Why the chosen model cannot be used; "" if it can."""
        if self.row is None:
            return _("The model {name} is not known here; choose another one under Model and settings.").format(
                name=self.panel.parameters.model or DEFAULT_MODEL
            )
        return "" if self.row.usable else self.row.reason

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Shows the choices."""
        parameters, ui, row = self.panel.parameters, self.ui, self.row
        if not self.rows:
            self.look_again()
            row = self.row
        ui.modelCombo.currentIndex = self.rows.index(row) if row is not None else -1
        ui.deviceCombo.currentIndex = _DEVICES.index(parameters.device) if parameters.device in _DEVICES else 0
        ui.thresholdSlider.value = parameters.threshold
        ui.followMemoryBox.checked = parameters.followMemory and self.follows
        allow(
            ui.followMemoryBox,
            "" if self.follows else _("Only models of the SAM 2 kind have a memory; choose one above."),
            _("The model remembers the slices before (SAM 2). Slower, and steadier between slices."),
        )
        self._show_axes()
        self._show_about(row)
        self._show_buttons(row)

    def _show_axes(self) -> None:
        """Planes of the target, by their names in the body."""
        parameters, combo = self.panel.parameters, self.ui.axisCombo
        names = [_("Automatic")]
        if parameters.targetVolume is not None and parameters.targetVolume.GetImageData() is not None:
            automatic = self.panel.target.axis() if parameters.axis == "auto" else ""
            if automatic:
                names[0] = _("Automatic ({plane})").format(plane=self._plane(automatic))
            names += [
                _("{plane} ({count} slices)").format(
                    plane=self._plane(axis), count=slice_count(parameters.targetVolume, axis)
                )
                for axis in AXES
            ]
        if names != self._axes:
            self._axes = names
            combo.clear()
            for name in names:
                combo.addItem(name)
        place = ("auto", *AXES).index(parameters.axis) if parameters.axis in AXES else 0
        combo.currentIndex = place if place < len(names) else 0

    def _plane(self, axis: str) -> str:
        try:
            from ProxyPromptSegmentLib.support.matching import plane_of
            from ProxyPromptSegmentModule.scene.nodes import geometry_of

            plane = plane_of(geometry_of(self.panel.parameters.targetVolume), axis)
        except Exception:  # a volume without a grid: said where it is used
            return axis
        return {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}.get(plane, plane)

    def _show_about(self, row: Any) -> None:
        if row is None:
            say(self.ui.modelLabel, "")
            return
        lines = [row.description, _("Licence: {licence}.").format(licence=row.licence) if row.licence else ""]
        lines.append(_("Trained on: {data}.").format(data=row.trained_on.rstrip(".")) if row.trained_on else "")
        say(self.ui.modelLabel, "\n".join(line for line in [*lines, row.reason] if line))

    def _show_buttons(self, row: Any) -> None:
        ui, going = self.ui, self._transfer is not None
        busy = _("A download goes on; wait for it or cancel it.") if going else ""
        nothing = self.panel.first_run.reason if self.panel.shelf is None else ""
        amount = size(row.bytes) if row is not None and row.can_download and row.bytes else ""
        ui.modelDownloadButton.text = _("Download ({size})…").format(size=amount) if amount else _("Download…")
        fetched = (
            "" if row is not None and row.can_download else _("This model needs no download, or cannot be had so.")
        )
        allow(ui.modelDownloadButton, busy or nothing or fetched, _("Fetches the selected model, after asking."))
        tip = _("Takes weights from a file on this computer, for example without internet access.")
        allow(ui.modelImportButton, busy or nothing, tip)
        kept = "" if row is not None and row.can_remove else _("This model comes with the program, or is not here.")
        allow(ui.modelRemoveButton, busy or nothing or kept, _("Removes the selected model's file from this computer."))
        ui.modelCancelButton.setVisible(going)
        ui.modelProgressBar.setVisible(going)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_model(self, index: int) -> None:
        """Another model."""
        if self.panel.listening and 0 <= index < len(self.rows):
            self.panel.parameters.model = self.rows[index].name

    def on_axis(self, index: int) -> None:
        """Another plane."""
        if self.panel.listening and index >= 0:
            self.panel.parameters.axis = ("auto", *AXES)[index]

    def on_device(self, index: int) -> None:
        """Another device."""
        if self.panel.listening and index >= 0:
            self.panel.parameters.device = _DEVICES[index]

    def on_threshold(self, value: float) -> None:
        """Another threshold."""
        if self.panel.listening:
            self.panel.parameters.threshold = value

    def on_follow(self, checked: bool) -> None:
        """With or without memory."""
        if self.panel.listening:
            self.panel.parameters.followMemory = checked

    def on_download(self) -> None:
        """Asks, then fetches the chosen model and what it needs."""
        row = self.row
        with said_in(self.ui.modelMessageLabel):
            rows = [row, *[one for one in self.panel.shelf.needed(row.name) if not one.here]]
            listed = "\n".join(
                _("{name}: {size}, licence {licence}").format(
                    name=one.name, size=size(one.bytes) if one.bytes else _("size unknown"), licence=one.licence
                )
                for one in rows
            )
            question = _("This downloads from the internet; nothing of yours is sent:\n\n{models}\n\nGo on?")
            if slicer.util.confirmOkCancelDisplay(question.format(models=listed), _("Download a model")):
                self._follow(self.panel.shelf.download(row.name))

    def on_import(self) -> None:
        """Takes a file of the user."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Import model weights"), "", _("Weights (*.safetensors *.pth *.pt)")
        )
        if path:
            with said_in(self.ui.modelMessageLabel):
                self._follow(self.panel.shelf.import_file(path))

    def on_remove(self) -> None:
        """Removes the chosen model's file, after asking."""
        row = self.row
        question = _("Remove {name} from this computer? It can be downloaded or imported again.").format(name=row.name)
        if slicer.util.confirmOkCancelDisplay(question, _("Remove a model")):
            with said_in(self.ui.modelMessageLabel):
                freed = self.panel.shelf.remove(row.name)
                say(self.ui.modelMessageLabel, _("{size} are free again.").format(size=size(freed)))
            self.look_again()
            self.panel.refresh()

    def on_cancel(self) -> None:
        """Stops what goes on."""
        if self._transfer is not None:
            self._transfer.cancel()

    def _follow(self, transfer: Any) -> None:
        self._transfer = transfer
        say(self.ui.modelMessageLabel, "")
        self._pump.start()
        self.panel.refresh()

    def _poll(self) -> bool:
        """Shows how far a download is; called by the pump, which lets its thread run. Whether it goes on."""
        if self._transfer is None:
            return False
        state, bar = self._transfer.poll(), self.ui.modelProgressBar
        bar.maximum = 1000 if state.total else 0
        bar.value = int(1000 * state.received / state.total) if state.total else 0
        left = _(", about {time} left").format(time=duration(state.seconds_left)) if state.seconds_left else ""
        amount = (
            _("{done} of {total}").format(done=size(state.received), total=size(state.total)) if state.total else ""
        )
        bar.format = f"{state.what} {amount}{left}".strip()
        if not state.ended:
            return True
        transfer, self._transfer = self._transfer, None
        say(self.ui.modelMessageLabel, state.error or _words_of_end(transfer.name, state.state))
        self.look_again()
        self.panel.refresh()
        return False

    def close(self) -> None:
        """Stops listening to a download; `ModelShelf.close` ends it."""
        self._transfer = None
        self._pump.close()


def _words_of_end(name: str, state: str) -> str:
    """What a transfer without an error has come to."""
    if state == "cancelled":
        return _("Cancelled; what was received is kept, and the next attempt goes on there.")
    return _("{name} is on this computer now.").format(name=name)
