"""The model section: model and settings, download and import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qt
import slicer
import slicer.util

from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis
from ProxyPromptSegmentLib.support.matching import plane_of
from ProxyPromptSegmentLib.weights.terms import terms_of
from ProxyPromptSegmentModule.models.rows import known_entries
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import ModelWidgets
from ProxyPromptSegmentModule.runs.pump import Pump
from ProxyPromptSegmentModule.scene.nodes import geometry_of
from ProxyPromptSegmentModule.scene.slice_views import slice_count
from ProxyPromptSegmentModule.states import PromptBy, TransferState
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, duration, said_in, say, size

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.models.rows import ModelRow
    from ProxyPromptSegmentModule.models.transfers import Transfer

_DEVICES = ("auto", "cpu", "cuda", "mps")
_TILES = ("auto", "off", "on", "2", "3", "4", "6", "8")


class ModelSection(Section):
    """The widgets for model, axis, device, threshold, tiles and memory, and for download, import and removal."""

    def __init__(self, widgets: ModelWidgets, state: PanelState, model: ChosenModel, target: ChosenTarget) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._model, self._target = widgets, state, model, target
        self._transfer: Transfer | None = None
        self._pump = Pump(self._poll)
        self._axes: list[str] = []
        self._listed: list[str] = []
        self._terms_of, self._terms = "", ""  # the model whose terms are shown, and these
        ui = widgets
        for name in (_("Automatic"), _("Processor (CPU)"), _("NVIDIA graphics card (CUDA)"), _("Apple graphics (MPS)")):
            ui.deviceCombo.addItem(name)
        for name in (_("Automatic"), _("Off"), _("On")):
            ui.tilesCombo.addItem(name)
        for times in _TILES[3:]:
            ui.tilesCombo.addItem(_("{times} times larger").format(times=times))
        ui.modelLabel.connect("linkActivated(QString)", self.on_terms)
        ui.modelCombo.connect("currentIndexChanged(int)", self.on_model)
        ui.axisCombo.connect("currentIndexChanged(int)", self.on_axis)
        ui.deviceCombo.connect("currentIndexChanged(int)", self.on_device)
        ui.thresholdSlider.connect("valueChanged(double)", self.on_threshold)
        ui.tilesCombo.connect("currentIndexChanged(int)", self.on_tiles)
        ui.followMemoryBox.connect("toggled(bool)", self.on_follow)
        ui.chooseSupportsBox.connect("toggled(bool)", self.on_choose_supports)
        ui.fillGapsBox.connect("toggled(bool)", self.on_fill_gaps)
        ui.usePositionBox.connect("toggled(bool)", self.on_use_position)
        ui.registerSupportsBox.connect("toggled(bool)", self.on_register_supports)
        ui.lookCloserBox.connect("toggled(bool)", self.on_look_closer)
        ui.modelDownloadButton.connect("clicked()", self.on_download)
        ui.modelImportButton.connect("clicked()", self.on_import)
        ui.modelRemoveButton.connect("clicked()", self.on_remove)
        ui.modelCancelButton.connect("clicked()", self.on_cancel)
        say(ui.modelMessageLabel, "")

    def look_again(self) -> None:
        """Read the models of this machine."""
        with said_in(self._ui.modelMessageLabel):
            if not self._model.look_again():
                return
        with self._state.quiet():
            self._show_models()

    def _show_models(self) -> None:
        """Show the models that can be prompted as it is chosen."""
        titles = [self._title(row) for row in self._model.fitting] if self._state.has_scene else []
        if titles != self._listed:
            self._listed = titles
            self._ui.modelCombo.clear()
            for title in titles:
                self._ui.modelCombo.addItem(title)

    def _title(self, row: ModelRow) -> str:
        amount = _(", {size}").format(size=size(row.bytes)) if row.bytes and not row.here else ""  # to be downloaded
        return _("{name} ({state}{amount})").format(name=row.name, state=row.state, amount=amount)

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the choices."""
        parameters, ui, row = self._state.parameters, self._ui, self._model.row
        if not self._model.rows:
            self.look_again()
            row = self._model.row
        self._show_models()
        ui.modelCombo.currentIndex = self._model.fitting.index(row) if row is not None else -1
        self._show_what_applies()
        ui.deviceCombo.currentIndex = _DEVICES.index(parameters.device) if parameters.device in _DEVICES else 0
        ui.thresholdSlider.value = parameters.threshold
        ui.tilesCombo.currentIndex = _TILES.index(parameters.tiles) if parameters.tiles in _TILES else -1
        allow(
            ui.tilesCombo,
            _("The memory follows whole slices; untick it below to use tiles.") if self._follows else "",
            _(
                "Cuts slices into overlapping tiles that show structures larger, which takes longer. Automatic does so "
                "for structures that are too thin or too small for the model."
            ),
        )
        ui.followMemoryBox.checked = self._follows
        ui.chooseSupportsBox.checked = parameters.chooseSupports
        ui.fillGapsBox.checked = parameters.fillGaps
        ui.usePositionBox.checked, ui.registerSupportsBox.checked = parameters.usePosition, parameters.registerSupports
        ui.lookCloserBox.checked = parameters.lookCloser
        followed = _("The memory follows slices without this; untick it above to use it.") if self._follows else ""
        allow(
            ui.usePositionBox,
            followed,
            _(
                "The model compares how far along their volumes slices of support and target lie. Untick it where the "
                "volumes show very different parts of the body."
            ),
        )
        allow(
            ui.registerSupportsBox,
            followed,
            _(
                "Supports that are volumes are registered to the target, and their masks are joined with the "
                "prediction: about a second for each support."
            ),
        )
        allow(
            ui.lookCloserBox,
            followed,
            _(
                "Structures that are small in the slices are segmented a second time, enlarged, and both results are "
                "joined: more accurate, at up to twice the time."
            ),
        )
        allow(
            ui.followMemoryBox,
            "" if self._model.follows else _("Only SAM 2 models have a memory; choose one above."),
            _("The model remembers the previous slices (SAM 2): slower, but more consistent from slice to slice."),
        )
        self._show_axes()
        self._show_about(row)
        self._show_buttons(row)

    def _show_what_applies(self) -> None:
        """Show the settings that matter to what prompts."""
        ui, by_support = self._ui, self._state.prompt_by == PromptBy.SUPPORT
        of_supports = (ui.followMemoryBox, ui.chooseSupportsBox, ui.usePositionBox, ui.registerSupportsBox)
        for widget in (ui.tilesCaption, ui.tilesCombo, ui.lookCloserBox, *of_supports):
            widget.setVisible(by_support)
        ui.fillGapsBox.setVisible(self._state.prompt_by != PromptBy.HAND)

    @property
    def _follows(self) -> bool:
        """Whether the memory is used."""
        return self._state.parameters.followMemory and self._model.follows

    def _show_axes(self) -> None:
        """Show the planes of the target by their anatomical names."""
        parameters, combo = self._state.parameters, self._ui.axisCombo
        names = [_("Automatic")]
        if parameters.targetVolume is not None and parameters.targetVolume.GetImageData() is not None:
            if parameters.axis == "auto":
                names[0] = _("Automatic ({plane})").format(plane=self._plane(self._target.axis()))
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

    def _plane(self, axis: Axis) -> str:
        target = self._state.parameters.targetVolume
        if target is None:
            return axis
        try:
            plane = plane_of(geometry_of(target), axis)
        except Exception:  # a volume without a regular grid is reported elsewhere
            return axis
        return {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}.get(plane, plane)

    def _show_about(self, row: ModelRow | None) -> None:
        if row is None:
            say(self._ui.modelLabel, "")
            return
        lines = [row.description, _("Licence: {licence}.").format(licence=row.licence) if row.licence else ""]
        lines.append(_("Trained on: {data}.").format(data=row.trained_on.rstrip(".")) if row.trained_on else "")
        shown = self._terms if self._terms_of == row.name else ""
        link = _("Hide the terms") if shown else _("Terms of the weights and of their training data")
        say(self._ui.modelLabel, "\n".join(line for line in [*lines, row.reason, shown] if line), link)

    def on_terms(self, link: str) -> None:
        """Show the terms of the chosen model, or hide them."""
        row = self._model.row
        if row is None:
            return
        if self._terms_of == row.name:
            self._terms_of = ""
        else:
            entry = next((one for one in known_entries() if one.name == row.name), None)
            listed = terms_of(entry) if entry is not None else []
            self._terms_of, self._terms = row.name, "\n".join(f"{title}: {text}." for title, text in listed)
        self._state.changed.emit()

    def _show_buttons(self, row: ModelRow | None) -> None:
        ui, going = self._ui, self._transfer is not None
        busy = _("A download is in progress; wait for it or cancel it.") if going else ""
        nothing = self._state.obstacle if self._state.catalog is None else ""
        amount = size(row.bytes) if row is not None and row.can_download and row.bytes else ""
        ui.modelDownloadButton.text = _("Download ({size})…").format(size=amount) if amount else _("Download…")
        fetched = (
            "" if row is not None and row.can_download else _("This model needs no download, or cannot be downloaded.")
        )
        allow(
            ui.modelDownloadButton,
            busy or nothing or fetched,
            _("Downloads the selected model; asks for confirmation first."),
        )
        tip = _("Imports weights from a file on this computer, for example without internet access.")
        allow(ui.modelImportButton, busy or nothing, tip)
        kept = (
            ""
            if row is not None and row.can_remove
            else _("This model comes with the program, or is not on this computer.")
        )
        allow(ui.modelRemoveButton, busy or nothing or kept, _("Removes the selected model's file from this computer."))
        ui.modelCancelButton.setVisible(going)
        ui.modelProgressBar.setVisible(going)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_model(self, index: int) -> None:
        """Store the model."""
        if self._state.listening and 0 <= index < len(self._model.fitting):
            self._model.choose(self._model.fitting[index].name)

    def on_axis(self, index: int) -> None:
        """Store the axis."""
        if self._state.listening and index >= 0:
            self._state.parameters.axis = ("auto", *AXES)[index]

    def on_device(self, index: int) -> None:
        """Store the device."""
        if self._state.listening and index >= 0:
            self._state.parameters.device = _DEVICES[index]

    def on_threshold(self, value: float) -> None:
        """Store the threshold."""
        if self._state.listening:
            self._state.parameters.threshold = value

    def on_tiles(self, index: int) -> None:
        """Store whether slices are cut into tiles."""
        if self._state.listening and index >= 0:
            self._state.parameters.tiles = _TILES[index]

    def on_follow(self, checked: bool) -> None:
        """Store whether the memory is used."""
        if self._state.listening:
            self._state.parameters.followMemory = checked

    def on_choose_supports(self, checked: bool) -> None:
        """Store whether each slice reads only the supports most like it."""
        if self._state.listening:
            self._state.parameters.chooseSupports = checked

    def on_use_position(self, checked: bool) -> None:
        """Store whether the position of slices is used."""
        if self._state.listening:
            self._state.parameters.usePosition = checked

    def on_register_supports(self, checked: bool) -> None:
        """Store whether supports are registered."""
        if self._state.listening:
            self._state.parameters.registerSupports = checked

    def on_look_closer(self, checked: bool) -> None:
        """Store whether small structures are looked at closer."""
        if self._state.listening:
            self._state.parameters.lookCloser = checked

    def on_fill_gaps(self, checked: bool) -> None:
        """Store whether gaps are filled."""
        if self._state.listening:
            self._state.parameters.fillGaps = checked

    def on_download(self) -> None:
        """Ask, then download the chosen model and the weights that it needs."""
        row, catalog = self._model.row, self._state.catalog
        if row is None or catalog is None:
            return
        with said_in(self._ui.modelMessageLabel):
            rows = [row, *[one for one in catalog.needed(row.name) if not one.here]]
            listed = "\n".join(
                _("“{name}”: {size}, licence {licence}").format(
                    name=one.name, size=size(one.bytes) if one.bytes else _("size unknown"), licence=one.licence
                )
                for one in rows
            )
            question = _("This downloads from the internet; none of your data is sent:\n\n{models}\n\nContinue?")
            if slicer.util.confirmOkCancelDisplay(question.format(models=listed), _("Download a model")):
                self._follow(catalog.download(row.name))

    def on_import(self) -> None:
        """Import weights from a file."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Import model weights"), "", _("Weights (*.safetensors *.pth *.pt)")
        )
        catalog = self._state.catalog
        if path and catalog is not None:
            with said_in(self._ui.modelMessageLabel):
                self._follow(catalog.import_file(path))

    def on_remove(self) -> None:
        """Remove the chosen model's file after confirmation."""
        row, catalog = self._model.row, self._state.catalog
        if row is None or catalog is None:
            return
        question = _("Remove {name} from this computer? It can be downloaded or imported again.").format(name=row.name)
        if slicer.util.confirmOkCancelDisplay(question, _("Remove a model")):
            with said_in(self._ui.modelMessageLabel):
                freed = catalog.remove(row.name)
                say(self._ui.modelMessageLabel, _("{size} were freed.").format(size=size(freed)))
            self.look_again()
            self._state.changed.emit()

    def on_cancel(self) -> None:
        """Cancel the transfer in progress."""
        if self._transfer is not None:
            self._transfer.cancel()

    def _follow(self, transfer: Transfer) -> None:
        self._transfer = transfer
        say(self._ui.modelMessageLabel, "")
        self._pump.start()
        self._state.changed.emit()

    def _poll(self) -> bool:
        """Show the progress of a transfer; called by the pump. Return whether it is still in progress."""
        if self._transfer is None:
            return False
        state, bar = self._transfer.poll(), self._ui.modelProgressBar
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
        say(self._ui.modelMessageLabel, state.error or _words_of_end(transfer.name, state.state))
        self.look_again()
        self._state.changed.emit()
        return False

    def close(self) -> None:
        """Stop following a transfer; `ModelCatalog.close` ends it."""
        self._transfer = None
        self._pump.close()


def _words_of_end(name: str, state: TransferState) -> str:
    """Return the sentence for the end of a transfer without an error."""
    if state == TransferState.CANCELLED:
        return _("Cancelled; what was received is kept, and the next attempt resumes there.")
    return _("“{name}” is now on this computer.").format(name=name)
