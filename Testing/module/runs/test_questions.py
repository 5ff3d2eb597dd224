"""Every question to the worker thread is answered, so that no button waits for an answer that never comes."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")

from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentModule.runs import questions as questions_module
from ProxyPromptSegmentModule.runs.questions import Questions
from ProxyPromptSegmentModule.runs.request import Request, Settings


@pytest.fixture
def asked():
    """Questions whose tasks are only numbered, and what was answered."""
    numbers, answers = iter(range(100)), []
    questions = Questions(lambda task, label, replaces=None: types.SimpleNamespace(number=next(numbers)))

    def check():
        questions.check([], Settings(), False, lambda findings, sentence: answers.append((findings, sentence)))

    return questions, check, answers


def test_a_question_is_answered_when_the_scene_is_closed(asked):
    questions, check, answers = asked
    check()
    questions.forget("The scene was closed, so this was stopped.")
    assert answers == [([], "The scene was closed, so this was stopped.")]
    questions.receive(events.Finished(0, ["late"]))
    assert len(answers) == 1


def test_a_dropped_question_is_answered_unless_the_same_was_asked_again(asked):
    questions, check, answers = asked
    check()
    check()
    questions.receive(events.Finished(0, events.Dropped()))
    assert answers == []
    questions.receive(events.Finished(1, events.Dropped()))
    assert answers == [([], "The question was cancelled; ask again.")]


def test_the_scene_s_end_answers_a_check_that_is_still_computed(logic, two_cases, scene):
    from ProxyPromptSegmentModule.runs.for_scripts import case_of as _case

    answers = []
    logic.check([_case(two_cases[0])], lambda found, sentence: answers.append(sentence))
    scene.Clear(False)
    assert answers == ["The scene was closed, so this was stopped."]


def test_missing_values_outside_the_body_are_mended_before_supports_are_suggested(monkeypatch):
    import numpy as np

    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
    from ProxyPromptSegmentModule.runs import tasks

    ranked = []
    monkeypatch.setattr(tasks, "_segmenter", lambda engine, settings: None)
    monkeypatch.setattr(tasks, "rank", lambda library, target, segmenter, **more: ranked.append(target) or [])
    volume, _marks = pelvis_phantom(2, (6, 48, 48))
    voxels = volume.array.copy()
    voxels[0, :2, :2] = np.nan
    task = tasks.SuggestTask(library=None, voxels=voxels, geometry=volume.geometry, name="new", settings=Settings())
    _found, said = task(None, types.SimpleNamespace(progress=None, cancel=None))
    assert np.isfinite(ranked[0].array).all() and "NaN" in said


def test_supports_are_prepared_by_a_task_that_yields_and_only_where_they_may_be_kept(monkeypatch):
    submitted = []

    def submit(task, label, replaces=None, *, yields=False):
        submitted.append((task, yields))

    monkeypatch.setattr(questions_module.nodes, "geometry_of", lambda node: "grid")
    questions, request = Questions(submit), Request(target=object(), cases=("a case",), objects=("prostate",))
    monkeypatch.setenv("PROXYPROMPT_SUPPORTS", "off")
    questions.prepare_ahead(request)
    assert not submitted
    monkeypatch.setenv("PROXYPROMPT_SUPPORTS", "here")
    questions.prepare_ahead(Request(target=object()))
    assert not submitted, "there is no support"
    questions.prepare_ahead(request)
    ((task, yields),) = submitted
    assert yields and (task.cases, task.objects, task.target) == (("a case",), ("prostate",), "grid")


def test_a_target_that_has_lost_its_image_stops_nothing(monkeypatch, scene):
    submitted = []
    questions = Questions(lambda *task, **more: submitted.append(task))
    monkeypatch.setattr(questions_module, "supports_folder", lambda: "somewhere")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    questions.prepare_ahead(Request(target=node, cases=(object(),)))
    assert not submitted
