"""The list of cases of a panel of stand-ins: its lines, clicks, and the real logic behind it."""

from __future__ import annotations


def real_logic():
    """The module's logic, with what Slicer's own class adds."""
    import slicer

    from ProxyPromptSegmentModule.logic import SegmentationLogic
    from widget_cases import RecordedLogic

    class Logic(SegmentationLogic):
        scene = slicer.mrmlScene
        getParameterNode = RecordedLogic.getParameterNode  # noqa: N815

    return Logic()


def finish(panel, stand_ins):
    """Wait until the studies have ended and the panel shows it."""
    from lesson_cases import until

    studies = panel.state.studies
    until(stand_ins, lambda: studies.ended, "the end of the studies")
    until(stand_ins, lambda: not panel.sections.studies._due, "the words about it")
    return studies


def rows(panel):
    """The first lines of the cases: name and state."""
    listed = panel.ui.casesList
    return [listed.item(number).text().split("\n")[0] for number in range(listed.count)]


def below(panel, row):
    """What a case says below its name."""
    return panel.ui.casesList.item(row).text().partition("\n")[2]


def click(panel, row):
    """Click a case."""
    listed = panel.ui.casesList
    listed.real.itemClicked.emit(listed.item(row))
