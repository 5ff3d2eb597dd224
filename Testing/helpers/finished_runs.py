"""Runs that have ended, as the logic leaves them, and what a user does with their results."""

from __future__ import annotations

import types

import numpy as np

from mrml_scene import add_segmentation, segment_array
from ProxyPromptSegmentLib.reports.doubts import Doubt
from widget_cases import as_result


def job(axis="k"):
    pair = types.SimpleNamespace(image=np.eye(20, 30, dtype=np.float32))
    shown = types.SimpleNamespace(name="earlier", index=4)
    return types.SimpleNamespace(
        view=types.SimpleNamespace(axis=axis),
        support=types.SimpleNamespace(objects=("prostate", "tumour"), pairs=(pair, pair)),
        shown=(shown, shown),
    )


def doubt(index, name="prostate", sure=0.5):
    return Doubt(index, name, 0.5, "unlike its neighbours", sure, 0, f"{index} (S 18.0 mm)")


def finish(run, target):
    """End a run on a target: its result is in the scene, as the logic leaves it."""
    from ProxyPromptSegmentModule.scene.facts import Facts, Lowest

    mask = np.zeros((8, 24, 24), np.uint8)
    mask[2:6, 5:12, 5:12] = 1
    mask[3, 5:12, 12:14] = 1
    result = add_segmentation(target, {"prostate": mask, "tumour": mask}, f"{target.GetName()} result")
    doubts = {"prostate": (doubt(6, sure=0.2), doubt(1))}
    as_result(target, result, Facts(doubts=doubts, lowest={"prostate": Lowest(0.5, 6, "S 18.0 mm")}))
    run.job = job()
    ids = {"prostate": "prostate", "tumour": "tumour"}
    run.end(segmentation=result, segment_ids=ids, written=set(range(8)))
    return result


def erase(finished, index, node=None, volume=None):
    """Correct a slice of the prostate by hand."""
    import slicer

    node, volume = node or finished.result, volume or finished.new_case
    mask = segment_array(node, "prostate", volume)
    mask[index, 5:8] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "prostate", volume)
    finished.refresh()


def show(finished, index):
    import slicer

    from ProxyPromptSegmentModule.scene.slice_views import show_slice

    show_slice(slicer.mrmlScene, finished.new_case, "k", index)
