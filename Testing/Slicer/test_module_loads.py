"""The module loads, its panel is built, nothing is logged as an error; run inside Slicer, with or without a window."""

import unittest

import slicer


def errors_of_ours():
    """Messages at the level of errors that name us."""
    model = slicer.app.errorLogModel()
    found = []
    for row in range(model.logEntryCount()):
        level = model.logEntryData(row, model.LogLevelColumn)
        text = str(model.logEntryDescription(row))
        if str(level).lower() in ("error", "critical", "fatal") and "ProxyPrompt" in text:
            found.append(text)
    return found


class TestModuleLoads(unittest.TestCase):
    """What every user sees first."""

    def test_the_panel_is_built_without_an_error(self):
        """A label instead of the panel would say why it was not."""
        self.assertTrue(hasattr(slicer.modules, "proxypromptsegment"))
        widget = slicer.modules.proxypromptsegment.widgetRepresentation().self()
        self.assertIsNotNone(widget.panel)
        self.assertEqual(errors_of_ours(), [])

    def test_the_logic_of_scripts_is_there(self):
        """As the documentation says it."""
        self.assertTrue(callable(slicer.util.getModuleLogic("ProxyPromptSegment").segment))

    def test_the_panel_may_be_built_again(self):
        """Developers reload it."""
        slicer.util.reloadScriptedModule("ProxyPromptSegment")
        widget = slicer.modules.proxypromptsegment.widgetRepresentation().self()
        self.assertIsNotNone(widget.panel)
        self.assertEqual(errors_of_ours(), [])
