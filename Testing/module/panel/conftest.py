"""Fixtures of the panel's tests; a test file takes them in with ``from widget_fixtures import ...``."""

from __future__ import annotations

import sys

import pytest

from mrml_scene import REASON, has_mrml, make_scene

NO_QT = "PySide6-Essentials, which holds the widgets of the stand-ins, cannot be imported: {error}"


@pytest.fixture(scope="session")
def imported_with_stand_ins() -> dict:
    """The module's files as they were imported over stand-ins: those of earlier tests, which take 0.2 s to import."""
    return {}


@pytest.fixture
def stand_ins(monkeypatch, tmp_path, caplog, imported_with_stand_ins):
    """A real scene, with stand-ins as `qt` and `slicer.parameterNodeWrapper`; what slots raise fails the test."""
    if not has_mrml():
        pytest.skip(REASON)
    try:
        import slicer_stand_ins
    except ImportError as error:  # also where a library of the system is missing, such as libEGL
        pytest.skip(NO_QT.format(error=error))
    import parameter_node_stand_in
    from widget_cases import forget_module

    scene = make_scene()
    import slicer

    slicer.app.topLevelWidgets = lambda: []
    slicer.app.applicationName = "Slicer"
    before = forget_module()
    if not imported_with_stand_ins:
        imported_with_stand_ins["qt"] = slicer_stand_ins.make_qt()
        imported_with_stand_ins["slicer.parameterNodeWrapper"] = parameter_node_stand_in.make_module()
    for name in ("qt", "slicer.parameterNodeWrapper"):
        monkeypatch.setitem(sys.modules, name, imported_with_stand_ins[name])
    sys.modules.update(imported_with_stand_ins)
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "models"))
    from ProxyPromptSegmentModule.install.installer import Requirements

    monkeypatch.setattr(Requirements, "missing", lambda self: [])  # half a second for each panel
    slicer_stand_ins.ERRORS.clear()
    yield slicer_stand_ins
    slicer_stand_ins.process_events()
    imported_with_stand_ins.update(forget_module())
    sys.modules.update(before)  # what other tests have imported finds its own files again
    scene.Clear(True)
    if slicer_stand_ins.ERRORS:
        raise slicer_stand_ins.ERRORS[0]
    faults = [one for one in caplog.records if one.levelname == "ERROR" and one.name.startswith("ProxyPrompt")]
    assert not faults, faults[0].exc_text or faults[0].getMessage()


@pytest.fixture
def make_panel(stand_ins):
    """Makes panels; the function takes a logic, by default one that only records."""
    from PySide6 import QtWidgets

    from widget_cases import RecordedLogic, make_host

    made = []

    def make(logic=None):
        from ProxyPromptSegmentModule.widget import ModuleWidget

        frame = QtWidgets.QWidget()
        frame.resize(400, 900)
        layout = stand_ins.StandIn(QtWidgets.QVBoxLayout(frame))
        panel = ModuleWidget(make_host(logic or RecordedLogic(), layout))
        made.append((panel, frame))
        panel.frame = frame
        panel.setup()
        panel.enter()
        return panel

    yield make
    for panel, frame in made:
        panel.cleanup()
        frame.deleteLater()


@pytest.fixture
def panel(make_panel):
    """A panel over an empty scene."""
    return make_panel()


@pytest.fixture
def ready(make_panel):
    """A panel with an earlier case as support and a new one as target: of three clicks, two are done."""
    from widget_cases import add_case, add_views

    support, annotation = add_case("earlier")
    target, _ = add_case("new", objects=())
    slice_views = add_views()
    made = make_panel()
    made.ui.addSupportButton.click()
    made.support, made.annotation, made.new_case, made.slice_views = support, annotation, target, slice_views
    return made


@pytest.fixture
def finished(ready):
    """A panel after a run that wrote two objects."""
    from finished_runs import finish

    ready.ui.applyButton.click()
    ready.last = ready.host.logic.runs[0]
    ready.result = finish(ready.last, ready.new_case)
    return ready


@pytest.fixture
def home(stand_ins, tmp_path, monkeypatch):
    """A user's folder with a small model."""
    pytest.importorskip("torch")
    from adapt_cases import register_small_model, use_folder

    use_folder(monkeypatch, tmp_path)
    register_small_model(tmp_path)
    return tmp_path


@pytest.fixture
def make_school(home, make_panel):
    """Makes panels on the real logic, in which a lesson takes seconds; the section is open."""
    import slicer

    from lesson_cases import TINY
    from widget_cases import RecordedLogic

    def make():
        from ProxyPromptSegmentModule.logic import SegmentationLogic

        class Logic(SegmentationLogic):
            scene = slicer.mrmlScene
            getParameterNode = RecordedLogic.getParameterNode  # noqa: N815

        made = make_panel(Logic())
        made.state.parameters.teachModel = "small"
        made.state.parameters.device = "cpu"
        made.chosen.lesson.more = dict(TINY)
        made.ui.teachButton.collapsed = False
        return made

    return make


@pytest.fixture
def school(make_school):
    """A panel with two annotated patients and a new one, which is the target."""
    import slicer

    from lesson_cases import add_taught_case
    from widget_cases import add_views

    add_taught_case(0, "Anna Doe")
    add_taught_case(1, "Bernd Doe")
    target, annotation = add_taught_case(7, "new")
    slicer.mrmlScene.RemoveNode(annotation)
    add_views()
    made = make_school()
    made.new_case = target
    made.ui.targetSelector.setCurrentNode(target)
    return made
