"""The panel has the height it needs after a visit to another module; Qt's layouts are real, the module qt is not."""

from __future__ import annotations

import pytest

LONG = "A sentence that is long enough to be wrapped into several lines in a narrow panel. " * 4
KEPT = []


class Area:
    """Slicer's module panel: a scroll area whose column holds the widget of the module that is open."""

    def __init__(self, module):
        from PySide6 import QtWidgets

        self.area, self.module = QtWidgets.QScrollArea(), module
        self.area.setWidgetResizable(True)
        column = QtWidgets.QWidget()
        self.layout = QtWidgets.QVBoxLayout(column)
        self.area.setWidget(column)
        self.enter()
        self.area.resize(360, 300)
        self.area.show()

    def enter(self):
        self.layout.insertWidget(0, self.module, 1)
        self.module.setVisible(True)

    def leave(self):
        KEPT.append(self.layout.takeAt(0))  # as Slicer does, which never deletes the layout's entry
        self.module.setVisible(False)
        self.module.setParent(None)


@pytest.fixture
def area(stand_ins):
    from PySide6 import QtWidgets

    from ProxyPromptSegmentModule.panel.fitted_frame import FittedFrame

    fitted, module = FittedFrame(), QtWidgets.QWidget()
    label = QtWidgets.QLabel("Short.")
    label.setWordWrap(True)
    label.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Preferred)
    fitted.layout.addWidget(label)
    fitted.layout.addStretch(1)
    QtWidgets.QVBoxLayout(module).addWidget(fitted.frame.real)
    made = Area(module)
    made.label, made.fitted, made.process = label, fitted, stand_ins.process_events
    yield made
    fitted.close()
    made.area.deleteLater()
    KEPT.clear()


def settle(area):
    for _ in range(12):  # each layout around asks the next one in an event of its own
        area.process()


def test_what_needs_more_height_after_a_visit_to_another_module_gets_it(area):
    settle(area)
    area.leave()
    settle(area)
    area.enter()
    settle(area)
    for text in (LONG, "Short.", 3 * LONG, LONG):
        area.label.setText(text)
        settle(area)
        needed = area.label.heightForWidth(area.label.width())
        assert area.label.height() >= needed, (area.label.height(), needed)
    area.leave()
    area.label.setText(3 * LONG)  # while the other module is shown
    area.enter()
    settle(area)
    assert area.label.height() >= area.label.heightForWidth(area.label.width())
    area.area.resize(260, 300)
    settle(area)
    assert area.label.width() < 260 and area.label.height() >= area.label.heightForWidth(area.label.width())


def test_a_frame_that_needs_less_height_gives_it_back(area):
    settle(area)
    area.label.setText(20 * LONG)
    settle(area)
    assert area.module.height() > area.area.viewport().height()
    area.label.setText("Short.")
    settle(area)
    assert area.module.height() <= area.area.viewport().height()
