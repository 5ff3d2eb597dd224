"""Every setting of a segmentation in every place of the module that lists them: runs, folders, records."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")
pytest.importorskip("torch")

from ProxyPromptSegmentModule.runs import folder_process, tasks
from ProxyPromptSegmentModule.runs.folder_process import FolderProcess
from ProxyPromptSegmentModule.runs.folder_request import FolderRequest, StudyFolder
from ProxyPromptSegmentModule.runs.request import Settings
from ProxyPromptSegmentModule.runs.run import Run
from settings_cases import CHANGED, NAMES, as_text, fields_of

OF_A_RUN = {"model", "axis", "follow", "max_slices"}
SETTINGS = Settings(**CHANGED)


class SeenError(Exception):
    """Ends a task whose settings were seen."""


def test_the_settings_of_a_run_are_those_of_the_command_line() -> None:
    assert fields_of(Settings) == CHANGED.keys() | OF_A_RUN


def test_a_run_gives_every_setting_to_its_task() -> None:
    task = Run._task(SimpleNamespace(request=SimpleNamespace(settings=SETTINGS, first=None)), None)
    assert {name: as_text(getattr(task, name)) for name in CHANGED} == CHANGED


def test_a_folder_of_studies_gives_every_setting_to_task_and_report(monkeypatch) -> None:
    request = FolderRequest(folder=StudyFolder(place=Path("a"), output=Path("b")), settings=SETTINGS)
    named = request.named()
    assert {name: named[name] for name in CHANGED} == CHANGED and named.keys() >= NAMES
    seen = []

    def recorded(job: object, **settings: object) -> None:
        seen.append(settings)
        raise SeenError

    monkeypatch.setattr(folder_process, "SegmentTask", recorded)
    with pytest.raises(SeenError):
        FolderProcess.segment(SimpleNamespace(_request=request, _planned=lambda *_: None), None, None, None)
    assert {name: seen[0][name] for name in CHANGED} == CHANGED


def test_the_record_of_a_run_has_every_setting_that_may_change_its_masks(monkeypatch) -> None:
    seen = []

    def recorded(job: object, result: object, model: object, settings: object, *more: object, **rest: object) -> None:
        seen.append(settings)
        raise SeenError

    monkeypatch.setattr(tasks, "run_record", recorded)
    result = SimpleNamespace(model=None, device="cpu", rungs=[])
    job, rest = SimpleNamespace(notes=[]), {"cases": (), "objects": None, "started": None, "sentences": ()}
    task = tasks.SummaryTask(job=job, result=result, settings=SETTINGS, **rest)
    with pytest.raises(SeenError):
        task(None, None)
    # As for a cohort, where and in which precision do not count; slices are averaged except by hand, which is named.
    kept = CHANGED.keys() - {"device", "precision", "across_slices"}
    assert {name: seen[0][name] for name in kept} == {name: CHANGED[name] for name in kept}
