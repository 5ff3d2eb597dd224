"""The file that Slicer loads, with stand-ins for Slicer's classes; each case in its own Python, as it edits `sys`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Base classes with the calls of the real ones: constructors that call each other, a layout, a parent.
STAND_IN = """
import importlib.util, logging, sys, types

logging.basicConfig(level=logging.CRITICAL)
told = []

def module(name, **values):
    made = sys.modules[name] = types.ModuleType(name)
    made.__dict__.update(values)
    return made

class Cooperative:
    def __init__(self, parent=None):
        super().__init__()
        self.parent = parent

class Widget(Cooperative):
    def __init__(self, parent=None):
        super().__init__(parent)
        self.layout = Layout()
    def setup(self): told.append("base setup")
    def onReload(self): told.append("base reload")

class Observation:
    def __init__(self):
        super().__init__()
        told.append("observation")
    def removeObservers(self): told.append("observers removed")

class Layout:
    def __init__(self): self.widgets = []
    def addWidget(self, widget): self.widgets.append(widget)
    def addStretch(self, number): pass

class Test:
    pass

class Label:
    pass

slicer = module("slicer", __path__=[], app=types.SimpleNamespace(connect=lambda *a: told.append(a[0])))
module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
module("slicer.ScriptedLoadableModule", ScriptedLoadableModule=Cooperative, ScriptedLoadableModuleWidget=Widget,
       ScriptedLoadableModuleLogic=Cooperative, ScriptedLoadableModuleTest=Test)
module("slicer.util", VTKObservationMixin=Observation)
module("qt", QLabel=Label, Qt=types.SimpleNamespace(PlainText=0))

def healthy_package():
    class Panel:
        def __init__(self, host):
            host.logic.results  # the panel is made of the logic's parts
            told.append(("panel", type(host).__name__))
        def setup(self): told.append("setup")
        def enter(self): told.append("enter")
        def exit(self): told.append("exit")
        def cleanup(self): told.append("cleanup")
    class Logic:
        def __init__(self):
            super().__init__()
            self.results = None
            told.append("logic")
    module("ProxyPromptSegmentModule", __path__=[])
    module("ProxyPromptSegmentModule.logic", SegmentationLogic=Logic)
    module("ProxyPromptSegmentModule.widget", ModuleWidget=Panel)

def load():
    spec = importlib.util.spec_from_file_location("ProxyPromptSegment", DOORPLATE)
    made = sys.modules["ProxyPromptSegment"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
"""


def run(code: str) -> None:
    file = ROOT / "ProxyPromptSegment" / "ProxyPromptSegment.py"
    code = f"DOORPLATE = {str(file)!r}\n{STAND_IN}\n{textwrap.dedent(code)}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_widget_passes_everything_on_to_the_panel():
    run("""
        healthy_package()
        widget = load().ProxyPromptSegmentWidget("parent")
        widget.setup(); widget.enter(); widget.exit(); widget.cleanup(); widget.cleanup(); widget.enter()
        assert told == ["observation", "base setup", "logic", ("panel", "ProxyPromptSegmentWidget"), "setup", "enter",
                        "exit", "cleanup", "observers removed", "observers removed"], told
    """)


@pytest.mark.parametrize("broken", ["logic", "widget"])
def test_a_package_that_cannot_be_loaded_leaves_a_sentence_in_the_panel(broken):
    run(f"""
        healthy_package()
        sys.modules["ProxyPromptSegmentModule.{broken}"] = None
        if "{broken}" == "logic":
            del sys.modules["ProxyPromptSegmentModule.widget"]
        widget = load().ProxyPromptSegmentWidget()
        widget.setup(); widget.enter(); widget.exit(); widget.cleanup()
        (label,) = widget.layout.widgets
        assert "could not be loaded" in label.text and "ProxyPromptSegmentModule.{broken}" in label.text, label.text
        assert load().ProxyPromptSegmentLogic()
    """)


def test_a_panel_that_fails_half_way_leaves_a_sentence_too():
    run("""
        healthy_package()
        def fail(self): raise ValueError("the .ui file is damaged")
        sys.modules["ProxyPromptSegmentModule.widget"].ModuleWidget.setup = fail
        widget = load().ProxyPromptSegmentWidget()
        widget.setup()
        assert "the .ui file is damaged" in widget.layout.widgets[0].text and widget.panel is None
    """)


def test_reload_ends_the_panel_and_reads_all_of_our_files_anew():
    run("""
        healthy_package()
        module("ProxyPromptSegmentLib.errors"); module("another")
        widget = load().ProxyPromptSegmentWidget()
        widget.setup(); widget.onReload()
        left = [name for name in sys.modules if name.startswith(("ProxyPromptSegmentModule", "ProxyPromptSegmentLib"))]
        assert not left and "another" in sys.modules, left
        assert told[-3:] == ["cleanup", "observers removed", "base reload"], told
    """)


def test_the_logic_has_both_bases_and_each_is_made_once():
    run("""
        healthy_package()
        logic = load().ProxyPromptSegmentLogic()
        assert told == ["logic"] and logic.parent is None
    """)


def test_the_module_has_title_category_warning_and_waits_for_start_up():
    run("""
        healthy_package()
        parent = types.SimpleNamespace()
        load().ProxyPromptSegment(parent)
        assert (parent.title, parent.categories) == ("Proxy Prompt Segment", ["Segmentation"])
        assert "Research use only. Not a medical device." in parent.helpText and "{" not in parent.helpText
        assert told == ["startupCompleted()"] and "SampleData" not in sys.modules
    """)


def test_sample_data_that_cannot_be_registered_cost_nothing_else():
    run("""
        healthy_package()
        sys.modules["ProxyPromptSegmentModule.scene.sample_data"] = None
        load().register_sample_data()
    """)


def test_in_a_checkout_the_library_is_found_beside_the_module():
    run("""
        import os
        root = os.path.dirname(os.path.dirname(DOORPLATE))
        sys.path.insert(0, os.path.dirname(DOORPLATE))
        sys.path = [path for path in sys.path if path != root]
        sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
        module("ProxyPromptSegmentModule", __path__=[])
        module("ProxyPromptSegmentModule.logic", SegmentationLogic=object)
        load()
        import ProxyPromptSegmentLib
        assert sys.path[-1] == root and ProxyPromptSegmentLib.__file__.startswith(root), sys.path
    """)


def test_an_installed_library_needs_no_edit_of_the_path(tmp_path):
    (tmp_path / "ProxyPromptSegmentLib").mkdir()
    (tmp_path / "ProxyPromptSegmentLib" / "__init__.py").touch()
    run(f"""
        healthy_package()
        sys.path.insert(0, {str(tmp_path)!r})
        before = list(sys.path)
        load()
        assert sys.path == before
    """)
