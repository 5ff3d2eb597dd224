"""The module loads, its panel is built, nothing is logged as an error; run inside Slicer, with or without a window."""

import logging
import unittest

import slicer

LEVEL, DESCRIPTION = 2, 4  # columns of the application's log


def errors_of_ours():
    """Messages at the level of errors that name us."""
    slicer.app.processEvents()  # the log is filled by the event loop
    model = slicer.app.errorLogModel()
    rows = [
        [str(model.data(model.index(row, column))) for column in (LEVEL, DESCRIPTION)]
        for row in range(model.rowCount())
    ]
    return [text for level, text in rows if level in ("Error", "Critical", "Fatal") and "Prompt" in text]


class TestModuleLoads(unittest.TestCase):
    """What every user sees first."""

    def test_the_panel_is_built_without_an_error(self):
        """A label instead of the panel would say why it was not."""
        self.assertTrue(hasattr(slicer.modules, "proxypromptsegment"))
        widget = slicer.modules.proxypromptsegment.widgetRepresentation().self()
        self.assertIsNotNone(widget.panel)
        self.assertEqual(errors_of_ours(), [])

    def test_an_error_would_be_noticed(self):
        """A check that cannot fail is none."""
        logging.error("Proxy Prompt Segment: written by a test")
        self.assertEqual(len(errors_of_ours()), 1)
        slicer.app.errorLogModel().clear()

    def test_the_logic_of_scripts_is_there(self):
        """As the documentation says it."""
        self.assertTrue(callable(slicer.util.getModuleLogic("ProxyPromptSegment").segment))

    def test_the_panel_may_be_built_again(self):
        """Developers reload it."""
        slicer.util.reloadScriptedModule("ProxyPromptSegment")
        widget = slicer.modules.proxypromptsegment.widgetRepresentation().self()
        self.assertIsNotNone(widget.panel)
        self.assertEqual(errors_of_ours(), [])
