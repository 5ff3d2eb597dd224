"""Beside a run on real MRML: the live preview, the reason for a point, and the estimate of the time."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from mrml_scene import segment_array

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")

from ProxyPromptSegmentModule.runs.request import Request, Settings

CPU = Settings(device="cpu")


def test_the_live_preview_writes_the_newest_slice_and_can_be_taken_back(logic, two_cases):
    from ProxyPromptSegmentModule.runs.for_scripts import case_of as _case

    support, (target, _truth) = two_cases
    live = logic.live(Request(target=target, cases=(_case(support),), settings=CPU, first=5))
    until = time.monotonic() + 60
    while live.last_index is None and time.monotonic() < until:
        logic.pump.turn()
    assert live.last_index == 5
    for index in (0, 1, 2, 6):  # scrolling: only the last one is sure to be shown
        logic.show(live, index)
    while not (live.last_index == 6 and live.idle) and time.monotonic() < until:
        logic.pump.turn()
    assert live.idle and {5, 6} <= live.written and not live.written & {0, 1}
    mask = segment_array(live.segmentation, live.segment_ids["prostate"], target)
    assert mask[5].any() and mask[6].any() and not mask[3].any()
    live.close()
    assert logic.wait(live, 60) and live.state == "finished"
    assert live.undo()
    ids = live.segmentation.GetSegmentation().GetSegmentIDs()
    assert all(not segment_array(live.segmentation, one, target).any() for one in ids)


def test_the_why_of_a_point_comes_from_the_support(logic, two_cases):
    support, (target, _truth) = two_cases
    run = logic.segment(target, [support], settings=CPU)
    mask = segment_array(run.segmentation, run.segment_ids["prostate"], target)
    k, j, i = (int(n.mean()) for n in np.nonzero(mask))
    ras = np.array([i, j, k, 1.0])
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    target.GetIJKToRASMatrix(matrix)
    place = matrix.MultiplyPoint(ras)[:3]
    answers = []
    logic.why(run, place, "prostate", lambda why, sentence: answers.append((why, sentence)))
    until = time.monotonic() + 60
    while not answers and time.monotonic() < until:
        logic.pump.turn()
    why, sentence = answers[0]
    assert sentence == "" and why.index == k and why.shares.sum() == pytest.approx(1, abs=1e-4)
    logic.why(run, (9999.0, 0.0, 0.0), "prostate", lambda why, sentence: answers.append((why, sentence)))
    assert answers[-1][0] is None and "outside" in answers[-1][1]
    assert slicer.mrmlScene is not None


@pytest.mark.cold
def test_the_estimate_learns_from_a_finished_run(logic, two_cases):
    from ProxyPromptSegmentModule.runs.for_scripts import case_of as _case

    support, (target, _truth) = two_cases
    request = Request(target=target, cases=(_case(support),), settings=CPU)
    before = logic.estimate(request)
    assert before.seconds > 0 and before.memory_bytes > 0 and not before.measured
    run = logic.segment(target, [support], settings=CPU)
    after = logic.estimate(request)
    taken = run.result.seconds["segmentation"]
    assert after.measured and taken / 3 < after.seconds < taken * 3
    fewer = logic.estimate(Request(target=target, cases=request.cases, slices=[1, 2], settings=CPU))
    assert fewer.seconds < after.seconds
    larger = logic.estimate(replace(request, settings=Settings(device="cpu", tiles="4")))
    assert after.tiles == 0 and larger.tiles == 25 and larger.seconds > 5 * after.seconds


def test_an_estimate_is_made_beside_the_main_thread(logic, two_cases):
    """300 slices with five structures took it half a second."""
    import threading

    from ProxyPromptSegmentModule.runs.for_scripts import case_of as _case

    support, (target, _truth) = two_cases
    request = Request(target=target, cases=(_case(support),), settings=CPU)
    answers, main = [], threading.get_ident()
    made_on = []

    class Cases(tuple):
        def __len__(self):
            made_on.append(threading.get_ident())
            return super().__len__()

    logic.estimate_later(request, lambda found, error: answers.append(("old", found, error)))
    logic.estimate_later(
        replace(request, cases=Cases(request.cases)), lambda found, error: answers.append(("new", found, error))
    )
    until = time.monotonic() + 60
    while not answers and time.monotonic() < until:
        logic.pump.turn()
    assert answers == [("new", logic.estimate(request), "")]  # the older question is not answered any more
    assert made_on and main not in made_on
    assert not logic.estimates.busy
    logic.estimate_later(replace(request, settings=Settings(model="none such")), lambda *found: answers.append(found))
    while len(answers) < 2 and time.monotonic() < until:
        logic.pump.turn()
    assert answers[1][0] is None and "none such" in answers[1][1]
    logic.estimate_later(request, lambda *found: answers.append(found))
    logic.abandon("closed")
    for _turn in range(20):
        logic.pump.turn()
    assert len(answers) == 2
