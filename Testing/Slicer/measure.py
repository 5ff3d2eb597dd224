"""Measures inside a real Slicer how well window and worker thread get along; prints JSON and asserts nothing.

    Slicer --no-splash --additional-module-paths ProxyPromptSegment --python-script Testing/Slicer/measure.py

What is measured on a drawn volume of 300 slices of 512x512 voxels:

* how late a timer of the window comes while the volume is segmented, first with the views drawn, then without;
* how long the worker takes beside the window, and beside a main thread that only waits;
* how long writing one slice takes.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import qt
import slicer

SIZE = (300, 512, 512)


class Lateness:
    """A timer that notes by how much it is late."""

    def __init__(self, interval_ms=10):
        self._interval, self._last, self.late = interval_ms / 1000, None, []
        self._timer = qt.QTimer()
        self._timer.setInterval(interval_ms)
        self._timer.connect("timeout()", self._tick)

    def __enter__(self):
        self._last = time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *_error):
        self._timer.stop()

    def _tick(self):
        now = time.perf_counter()
        self.late.append(max(0.0, now - self._last - self._interval))
        self._last = now

    def milliseconds(self):
        late = np.array(self.late or [0.0]) * 1000
        return {"longest": round(float(late.max()), 1), "99 %": round(float(np.percentile(late, 99)), 1)}


def make_nodes():
    """Support and target."""
    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

    def volume(seed, size, repeat=1, name=""):
        drawn, marked = pelvis_phantom(seed, size)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, np.repeat(drawn.array.astype(np.int16), repeat, axis=0))
        i, j, k = drawn.geometry.spacing_mm
        node.SetSpacing(i, j, k / repeat)
        node.CreateDefaultDisplayNodes()
        return node, marked

    support, marked = volume(1, (28, 160, 160), name="support")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "support segmentation")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(support)
    segmentation.GetSegmentation().AddEmptySegment("prostate", "prostate")
    slicer.util.updateSegmentBinaryLabelmapFromArray(marked.segments[0].mask, segmentation, "prostate", support)
    target, _ = volume(2, (SIZE[0] // 10, *SIZE[1:]), 10, "target")
    slicer.util.setSliceViewerLayers(background=target, fit=True)
    return support, segmentation, target


def until_ended(run):
    """Lets the window's own loop run, as when somebody watches."""
    while not run.ended:
        slicer.app.processEvents(qt.QEventLoop.WaitForMoreEvents, 50)
    return run


def in_the_window(logic, request, label, results):
    """One run beside the window."""
    logic.pump.longest = 0.0
    begun = time.perf_counter()
    with Lateness() as lateness:
        run = until_ended(logic.start(request))
    results[label] = {
        "state": run.state,
        "seconds": round(time.perf_counter() - begun, 2),
        "segmenting_seconds": round(run.result.seconds["segmentation"], 2),
        "timer_late_ms": lateness.milliseconds(),
        "longest_turn_of_the_pump_ms": round(logic.pump.longest * 1000, 1),
    }
    return run


def main():
    """Prints everything."""
    import ProxyPromptSegment
    from ProxyPromptSegmentModule.logic import _case
    from ProxyPromptSegmentModule.runs.request import Request, Settings

    logic = ProxyPromptSegment.ProxyPromptSegmentLogic()
    results = {"processors": os.cpu_count(), "size": SIZE, "slicer": slicer.app.applicationVersion}
    support, segmentation, target = make_nodes()
    request = Request(target=target, cases=(_case((support, segmentation)),), settings=Settings(device="cpu"))
    first = in_the_window(logic, request, "first run, torch is loaded on the way", results)
    run = in_the_window(logic, request, "views drawn", results)
    with slicer.util.RenderBlocker():
        run = in_the_window(logic, request, "views not drawn", results)
    with slicer.util.RenderBlocker():
        begun = time.perf_counter()
        alone = logic.start(request)
        while not alone.ended:  # the window's loop does not run at all
            logic.pump.turn()
        results["main thread waits in Python"] = {
            "seconds": round(time.perf_counter() - begun, 2),
            "segmenting_seconds": round(alone.result.seconds["segmentation"], 2),
        }
    waits = results["main thread waits in Python"]["segmenting_seconds"]
    beside = results["views not drawn"]["segmenting_seconds"]
    results["worker beside the window, times slower"] = round(beside / waits, 2)
    view = run.job.view
    masks = np.zeros((1, *view.take(np.zeros((1, 1, 1))).shape[1:]), np.uint8)
    shape = view.take(np.empty(SIZE, np.uint8)).shape[1:]
    masks = (np.random.default_rng(0).random((1, *shape)) > 0.5).astype(np.uint8)
    times = []
    with slicer.util.RenderBlocker():
        for index in range(50):
            begun = time.perf_counter()
            run.destination.write([(index * 5, masks)])
            times.append((time.perf_counter() - begun) * 1000)
    results["writing_one_slice_ms"] = {"median": round(float(np.median(times)), 2), "longest": round(max(times), 2)}
    results["states"] = [first.state, run.state, alone.state]
    print(json.dumps(results, indent=2))
    return 0 if logic.shutdown() else 1


if __name__ == "__main__":
    try:
        code = main()
    except Exception:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    slicer.util.exit(code)
