"""Runs on sequences in a real scene: a cine frame by frame, a 4D series volume by volume."""

from __future__ import annotations

import numpy as np
import pytest

from mrml_cases import LPS_RAS, add_case
from mrml_scene import add_volume, segment_array

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.worker.tasks import SegmentTask
from ProxyPromptSegmentModule.logic import SegmentationLogic
from ProxyPromptSegmentModule.runs.for_scripts import case_of as _case
from ProxyPromptSegmentModule.runs.plan_task import PlanTask
from ProxyPromptSegmentModule.runs.request import Request, Settings

SIZE = (12, 48, 48)


@pytest.fixture
def logic(scene):
    made = SegmentationLogic()
    yield made
    assert made.shutdown()


def add_sequence(arrays, geometry):
    """A sequence of volumes in a browser: browser, proxy."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    for number, array in enumerate(arrays):
        volume = add_volume(array, LPS_RAS @ geometry.affine, f"item {number}")
        sequence.SetDataNodeAtValue(volume, str(number))
        slicer.mrmlScene.RemoveNode(volume)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.AddSynchronizedSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser, browser.GetProxyNode(sequence)


def ended(logic, run):
    assert logic.wait(run, 120)
    assert run.state == "finished", run.error
    return run


@pytest.mark.parametrize(
    ("model", "follow"),
    [
        ("sam-compact", False),
        pytest.param("sam2-compact", False, marks=pytest.mark.slow),
        pytest.param("sam2-compact", True, marks=pytest.mark.slow),
    ],
)
def test_every_frame_of_a_cine_gets_its_segmentation(logic, scene, model, follow):
    support = add_case(1, SIZE)
    volume, _marks = pelvis_phantom(2, SIZE)
    frames = [volume.array[number : number + 1] for number in range(3, 9)]
    browser, proxy = add_sequence(frames, volume.geometry)
    settings = Settings(model=model, device="cpu", follow=follow)
    run = ended(logic, logic.start(Request(target=proxy, cases=(_case(support),), browser=browser, settings=settings)))
    assert run.written == set(range(6))
    shown = []
    for number in range(6):
        browser.SetSelectedItemNumber(number)
        shown.append(segment_array(run.segmentation, run.segment_ids["prostate"], proxy))
    assert all(mask.shape == (1, 48, 48) for mask in shown) and any(mask.any() for mask in shown)
    turned = np.stack([run.job.view.take(mask)[0] for mask in shown])
    assert np.array_equal(turned, run.result.stacked_masks()[:, 0])
    assert run.rows and run.record["model"]["name"] == model
    assert run.undo() and scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 1


@pytest.mark.parametrize("model", ["sam-compact", pytest.param("sam2-compact", marks=pytest.mark.slow)])
def test_missing_values_outside_the_body_in_a_later_frame_are_mended_and_said(logic, scene, model):
    support = add_case(1, SIZE)
    volume, _marks = pelvis_phantom(2, SIZE)
    frames = [volume.array[number : number + 1].copy() for number in range(3, 6)]
    frames[2][0, :2, :2] = np.nan
    browser, proxy = add_sequence(frames, volume.geometry)
    settings = Settings(model=model, device="cpu")
    run = ended(logic, logic.start(Request(target=proxy, cases=(_case(support),), browser=browser, settings=settings)))
    assert run.written == set(range(3)) and any("NaN" in one and "lowest" in one for one in run.sentences)


def test_every_volume_of_a_series_is_segmented_as_if_it_were_alone(logic, scene):
    support = add_case(1, SIZE)
    volume, _marks = pelvis_phantom(2, SIZE)
    browser, proxy = add_sequence([volume.array, volume.array[::-1].copy()], volume.geometry)
    run = ended(
        logic,
        logic.start(Request(target=proxy, cases=(_case(support),), browser=browser, settings=Settings(device="cpu"))),
    )
    alone = add_volume(volume.array, LPS_RAS @ volume.geometry.affine, "alone")
    expected = logic.segment(alone, [support], settings=Settings(device="cpu"))
    browser.SetSelectedItemNumber(0)
    found = segment_array(run.segmentation, run.segment_ids["prostate"], proxy)
    assert found.any()
    assert np.array_equal(found, segment_array(expected.segmentation, expected.segment_ids["prostate"], alone))
    assert run.written == {0, 1}


def test_a_script_segments_a_sequence_with_the_same_call(logic, scene):
    support = add_case(1, SIZE)
    volume, _marks = pelvis_phantom(2, SIZE)
    browser, proxy = add_sequence([volume.array[5:6], volume.array[6:7]], volume.geometry)
    run = logic.segment(proxy, [support], browser=browser, settings=Settings(device="cpu"))
    assert run.state == "finished" and run.written == {0, 1}
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 2


def test_a_cancelled_series_keeps_the_items_that_are_done(logic, scene):
    support = add_case(1, SIZE)
    volume, _marks = pelvis_phantom(2, SIZE)
    browser, proxy = add_sequence([volume.array] * 3, volume.geometry)
    run = logic.start(Request(target=proxy, cases=(_case(support),), browser=browser, settings=Settings(device="cpu")))
    run.observe(lambda seen: seen.cancel() if seen.written and not seen.ended else None)
    assert logic.wait(run, 120)
    assert run.state == "cancelled" and 1 <= len(run.written) < 3


@pytest.mark.parametrize("planned", [0, 1])
def test_a_series_that_is_cancelled_while_an_item_is_planned_does_not_segment_it(logic, scene, monkeypatch, planned):
    support, (volume, _marks) = add_case(1, SIZE), pelvis_phantom(2, SIZE)
    browser, proxy = add_sequence([volume.array, volume.array + 3], volume.geometry)
    run, carried_out = None, []
    plan, segment = PlanTask.__call__, SegmentTask.__call__

    def cancelled_meanwhile(task, engine, context):
        if task.name.endswith(f" {planned}"):
            run.cancel()
        return plan(task, engine, context)

    def counted(task, engine, context):
        carried_out.append(task.job.target.name)
        return segment(task, engine, context)

    monkeypatch.setattr(PlanTask, "__call__", cancelled_meanwhile)
    monkeypatch.setattr(SegmentTask, "__call__", counted)
    run = logic.start(Request(target=proxy, cases=(_case(support),), browser=browser, settings=Settings(device="cpu")))
    assert logic.wait(run, 120) and run.state == "cancelled"
    assert run.written == set(range(planned)) and len(carried_out) == planned
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 1 + planned, "an empty one says: nothing found"


def test_the_browser_is_deleted_in_the_middle(logic, scene):
    support = add_case(1, SIZE)
    volume, _marks = pelvis_phantom(2, SIZE)
    browser, proxy = add_sequence([volume.array] * 3, volume.geometry)
    run = logic.start(Request(target=proxy, cases=(_case(support),), browser=browser, settings=Settings(device="cpu")))
    run.observe(lambda seen: scene.RemoveNode(browser) if seen.written and browser.GetScene() else None)
    assert logic.wait(run, 120)
    assert run.state == "cancelled"


def test_a_class_is_looked_for_in_each_frame_of_a_cine_without_a_support(logic, scene):
    volume, _marks = pelvis_phantom(2, SIZE)
    browser, proxy = add_sequence([volume.array[number : number + 1] for number in (4, 5)], volume.geometry)
    run = logic.segment_by_class(proxy, "prostate", settings=Settings(device="cpu"), browser=browser)
    assert run.state == "finished" and run.written == {0, 1} and list(run.segment_ids) == ["prostate"]
    assert run.record["inputs"]["supports"] == [] and run.record["model"]["name"] == "classes-compact"
