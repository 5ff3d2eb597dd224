"""Proxy Prompt Segment: what Slicer loads at start-up, before anything is installed. Names and wiring only.

`ProxyPromptSegmentModule` does the work; if it cannot be loaded, the module shows the reason instead of the panel.
"""

import importlib
import importlib.util
import logging
import os
import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

OWN_PACKAGES = ("ProxyPromptSegmentModule", "ProxyPromptSegmentLib")
HOMEPAGE = "https://github.com/ProxyPromptSegment/SlicerProxyPromptSegment"

# In a checkout that is a module path, the library is next to the module's folder; installed, it is on the path.
if importlib.util.find_spec("ProxyPromptSegmentLib") is None:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

try:
    from ProxyPromptSegmentModule.logic import SegmentationLogic

    LOAD_ERROR = ""
except Exception as error:
    logging.exception("Proxy Prompt Segment could not be loaded")
    SegmentationLogic, LOAD_ERROR = object, f"{type(error).__name__}: {error}"  # type: ignore[misc,assignment]


class ProxyPromptSegment(ScriptedLoadableModule):
    """Name, category and texts of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Proxy Prompt Segment")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Sequences", "SampleData"]
        parent.contributors = ["ProxyPromptSegment maintainers"]
        parent.helpText = _(
            "Mark an annotated case as the support, choose a new case as the target, and press Apply: the structures "
            "of the support are segmented on every slice of the target. "
            '<a href="{link}">Tutorial and documentation</a>.<br><b>Research use only. Not a medical device.</b>'
        ).format(link=HOMEPAGE)
        parent.acknowledgementText = _(
            "Implements Proxy Prompt: Endowing SAM and SAM 2 with Auto-Interactive-Prompt for Medical Segmentation, on "
            "Segment Anything (Kirillov et al., 2023) and SAM 2 (Ravi et al., 2024). Please cite them."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


def register_sample_data():
    """Register the synthetic cases of the tutorial with the module Sample Data; a failure is only logged."""
    try:
        from ProxyPromptSegmentModule.scene.sample_data import register

        register()
    except Exception:
        logging.exception("The sample data of Proxy Prompt Segment could not be registered")


class ProxyPromptSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The widget that Slicer creates: holds the panel, or a label with the reason why there is none."""

    def __init__(self, parent=None):
        self.panel = None
        super().__init__(parent)  # also calls VTKObservationMixin's

    def setup(self):
        """Build the panel; Slicer calls this once, when the module is opened for the first time."""
        super().setup()
        try:
            from ProxyPromptSegmentModule.widget import ModuleWidget

            self.logic = ProxyPromptSegmentLogic()
            self.panel = ModuleWidget(self)  # it asks for the logic
            self.panel.setup()
        except Exception as error:
            logging.exception("The panel of Proxy Prompt Segment could not be built")
            self.show_failure(LOAD_ERROR or f"{type(error).__name__}: {error}")

    def show_failure(self, reason):
        """Show a sentence in the place of the panel."""
        import qt

        self.panel = None
        label = qt.QLabel()
        label.textFormat = qt.Qt.PlainText
        label.wordWrap = True
        label.text = _(
            "Proxy Prompt Segment could not be loaded: {reason}. Install the extension again in the Extensions Manager "
            "and restart Slicer; if that does not help, send the application's log (menu Help, Report a Bug)."
        ).format(reason=reason.rstrip("."))
        self.layout.addWidget(label)
        self.layout.addStretch(1)

    def cleanup(self):
        """Close the panel; Slicer may call this twice."""
        panel, self.panel = self.panel, None
        if panel is not None:
            panel.cleanup()
        self.removeObservers()

    def enter(self):
        """Inform the panel that the module was opened."""
        if self.panel is not None:
            self.panel.enter()

    def exit(self):
        """Inform the panel that another module was opened."""
        if self.panel is not None:
            self.panel.exit()

    def onReload(self):
        """Reload all files of the project, not only this one."""
        self.cleanup()
        for name in [name for name in sys.modules if name.split(".")[0] in OWN_PACKAGES]:
            del sys.modules[name]
        importlib.invalidate_caches()
        super().onReload()


class ProxyPromptSegmentLogic(ScriptedLoadableModuleLogic, SegmentationLogic):
    """The logic under the name that Slicer expects; see `SegmentationLogic.segment` for scripts."""

    def __init__(self):
        super().__init__()  # also calls SegmentationLogic's


class ProxyPromptSegmentTest(ScriptedLoadableModuleTest):
    """A short self test for the button Reload and Test, and for ctest."""

    def test_the_sample_case_is_segmented(self):
        """Segment the sample case as the tutorial does, without its clicks."""
        from ProxyPromptSegmentModule.install.installer import Requirements
        from ProxyPromptSegmentModule.scene.sample_data import dice_of_sample_case

        if missing := Requirements().missing():
            self.skipTest(f"packages are not installed yet: {', '.join(missing)}")
        slicer.mrmlScene.Clear()
        self.assertGreater(dice_of_sample_case(ProxyPromptSegmentLogic()), 0.8)
