"""Proxy Prompt Segment: what Slicer loads at start-up, before anything is installed. Names and wiring only.

The work is done in `ProxyPromptSegmentModule`; whatever goes wrong in it must leave a module that says so.
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

# In a checkout added as a module path the library lies beside the module's folder; installed, it is on the path.
if importlib.util.find_spec("ProxyPromptSegmentLib") is None:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

try:
    from ProxyPromptSegmentModule.logic import SegmentationLogic

    LOAD_ERROR = ""
except Exception as error:
    logging.exception("Proxy Prompt Segment could not be loaded")
    SegmentationLogic, LOAD_ERROR = object, f"{type(error).__name__}: {error}"  # type: ignore[misc,assignment]


class ProxyPromptSegment(ScriptedLoadableModule):
    """What the module is called, and where it is found."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Proxy Prompt Segment")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Sequences", "SampleData"]
        parent.contributors = ["ProxyPromptSegment maintainers"]
        parent.helpText = _(
            "Mark an annotated case as the support, choose a new case as the target, and press Apply: the structures "
            "of the support are drawn on every slice of the target. "
            '<a href="{link}">Tutorial and documentation</a>.<br><b>Research use only. Not a medical device.</b>'
        ).format(link=HOMEPAGE)
        parent.acknowledgementText = _(
            "Implements Proxy Prompt: Endowing SAM and SAM 2 with Auto-Interactive-Prompt for Medical Segmentation, on "
            "Segment Anything (Kirillov et al., 2023) and SAM 2 (Ravi et al., 2024). Please cite them."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


def register_sample_data():
    """Adds the artificial cases of the tutorial to the module Sample Data; a failure costs nothing but them."""
    try:
        from ProxyPromptSegmentModule.scene.sample_data import register

        register()
    except Exception:
        logging.exception("The sample data of Proxy Prompt Segment could not be registered")


class ProxyPromptSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Passes everything on to the panel, or says why there is none."""

    def __init__(self, parent=None):
        self.panel = None
        super().__init__(parent)  # also calls VTKObservationMixin's

    def setup(self):
        """Builds the panel, once, when the module is opened first."""
        super().setup()
        try:
            from ProxyPromptSegmentModule.widget import ModuleWidget

            self.logic, self.panel = ProxyPromptSegmentLogic(), ModuleWidget(self)
            self.panel.setup()
        except Exception as error:
            logging.exception("The panel of Proxy Prompt Segment could not be built")
            self.show_failure(LOAD_ERROR or f"{type(error).__name__}: {error}")

    def show_failure(self, reason):
        """Puts a sentence where the panel should be."""
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
        """Ends what the panel has begun; Slicer may call it twice."""
        panel, self.panel = self.panel, None
        if panel is not None:
            panel.cleanup()
        self.removeObservers()

    def enter(self):
        """The user comes to the module."""
        if self.panel is not None:
            self.panel.enter()

    def exit(self):
        """The user leaves it."""
        if self.panel is not None:
            self.panel.exit()

    def onReload(self):
        """Reads all of our files anew, not this one alone."""
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
    """A short self test, for the button Reload and Test and for ctest."""

    def test_the_sample_case_is_segmented(self):
        """The way of the tutorial without its clicks."""
        from ProxyPromptSegmentModule.install.installer import Requirements
        from ProxyPromptSegmentModule.scene.sample_data import dice_of_sample_case

        missing = Requirements().missing()
        if missing:
            self.skipTest(f"packages are not installed yet: {', '.join(missing)}")
        slicer.mrmlScene.Clear()
        self.assertGreater(dice_of_sample_case(ProxyPromptSegmentLogic()), 0.5)
