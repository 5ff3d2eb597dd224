"""Measures inside a real Slicer how long the window stands still; prints lines of JSON and asserts nothing.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/measure.py

What is measured through the panel, on drawn volumes of 300 slices of 512x512 voxels:

* how late a timer of the window comes while a support with five segments is added;
* the same while a target is segmented, first with the views drawn, then without;
* for both, the longest work of the main thread, in time on the clock and in processor time. On a machine with other
  work the clock also counts the time that the system gave to other processes;
* as a comparison, how late the timer comes in an idle window.

The variable RUNS is the number of runs without drawing, 2 by default; DRAWN=0 leaves out what needs drawn views.
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
SEGMENTS = 5
RUNS = int(os.environ.get("RUNS", "2"))


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
        shares = {f"{share} %": round(float(np.percentile(late, share)), 1) for share in (50, 99)}
        return {**shares, "longest": round(float(late.max()), 1)}


class Turns:
    """The turns of the pump by stage: the longest on the clock and in processor time."""

    def __init__(self, logic, stage):
        self._logic, self._stage, self._work = logic, stage, logic.pump._work
        self.clock, self.processor = {}, {}

    def __enter__(self):
        self._logic.pump._work = self._turn
        return self

    def __exit__(self, *_error):
        self._logic.pump._work = self._work

    def _turn(self):
        stage, clock, processor = self._stage(), time.perf_counter(), time.thread_time()
        try:
            return self._work()
        finally:
            for found, begun, now in (
                (self.clock, clock, time.perf_counter()),
                (self.processor, processor, time.thread_time()),
            ):
                found.setdefault(f"{stage} -> {self._stage()}", []).append((now - begun) * 1000)

    def milliseconds(self):
        def summary(found):
            every = np.concatenate([np.array(one) for one in found.values()]) if found else np.zeros(1)
            return {
                "50 %": round(float(np.median(every)), 1),
                "99 %": round(float(np.percentile(every, 99)), 1),
                "longest": round(float(every.max()), 1),
                "longest by stage": {name: round(max(one), 1) for name, one in found.items()},
            }

        return {"clock": summary(self.clock), "processor": summary(self.processor)}


def live(until, seconds=1200):
    """Lets the window's own loop run, as it does while a user watches."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        slicer.app.processEvents(qt.QEventLoop.WaitForMoreEvents, 50)
    assert until(), "waited in vain"


def make_nodes():
    """A large support with five segments, a small one, and a large target."""
    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

    def volume(seed, size, repeat=1, name=""):
        drawn, marked = pelvis_phantom(seed, size)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, np.repeat(drawn.array.astype(np.int16), repeat, axis=0))
        i, j, k = drawn.geometry.spacing_mm
        node.SetSpacing(i, j, k / repeat)
        node.CreateDefaultDisplayNodes()
        return node, np.repeat(marked.segments[0].mask, repeat, axis=0)

    def annotation(node, masks):
        made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{node.GetName()} annotation")
        made.CreateDefaultDisplayNodes()
        made.SetReferenceImageGeometryParameterFromVolumeNode(node)
        for name, mask in masks.items():
            made.GetSegmentation().AddEmptySegment(name, name)
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask, made, name, node)
        return made

    large, mask = volume(3, (SIZE[0] // 10, *SIZE[1:]), 10, "large")
    moved = {f"part {n}": np.roll(mask, 40 * n, axis=2) for n in range(SEGMENTS)}
    small, mask = volume(1, (28, 160, 160), name="small")
    target, _ = volume(2, (SIZE[0] // 10, *SIZE[1:]), 10, "target")
    slicer.util.setSliceViewerLayers(background=target, fit=True)
    return (large, annotation(large, moved)), (small, annotation(small, {"prostate": mask})), target


class Panel:
    """The panel and what a user does with it."""

    def __init__(self):
        slicer.util.selectModule("ProxyPromptSegment")
        self.panel = slicer.modules.ProxyPromptSegmentWidget.panel
        self.ui, self.logic = self.panel.ui, self.panel.host.logic
        self.large, self.small, self.target = make_nodes()
        live(lambda: True)

    def stage(self):
        """What the panel is doing."""
        run = self.panel.state.run
        return "no run" if run is None else str(run.state) if run.ended else run.what

    def _measured(self, begin, until):
        """Presses a button and waits: how long the press took, how late the timer came, the turns of the pump."""
        load = os.getloadavg()[0]
        with Lateness() as lateness, Turns(self.logic, self.stage) as turns:
            clock, processor = time.perf_counter(), time.thread_time()
            begin()
            press = [time.perf_counter() - clock, time.thread_time() - processor]
            live(until)
            seconds = time.perf_counter() - clock
            end = time.monotonic() + 0.5  # what the end brings about
            live(lambda: time.monotonic() > end)
        return {
            "seconds": round(seconds, 2),
            "press_ms": {"clock": round(press[0] * 1000, 1), "processor": round(press[1] * 1000, 1)},
            "timer_late_ms": lateness.milliseconds(),
            "turns_ms": turns.milliseconds(),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        }

    def idle(self):
        """A window in which nothing happens."""
        end = time.monotonic() + 5
        with Lateness() as lateness:
            live(lambda: time.monotonic() > end)
        return {"timer_late_ms": lateness.milliseconds(), "load": round(os.getloadavg()[0], 1)}

    def add(self, case, remove=False):
        """Adds a support, and removes it again if wanted."""
        volume, segmentation = case
        rows = self.ui.supportTable.rowCount
        self.ui.supportSegmentationSelector.setCurrentNode(segmentation)
        self.ui.supportVolumeSelector.setCurrentNode(volume)
        live(lambda: self.ui.addSupportButton.enabled)
        found = self._measured(self.ui.addSupportButton.click, lambda: self.ui.supportTable.rowCount > rows)
        if remove:
            self.ui.removeSupportButton.click()
            live(lambda: self.ui.supportTable.rowCount == rows)
        return found

    def run(self):
        """Presses Apply and waits for the end."""
        if self.panel.state.parameters.targetVolume is not self.target:
            self.ui.targetSelector.setCurrentNode(self.target)
        live(lambda: self.ui.applyButton.enabled)
        found = self._measured(self.ui.applyButton.click, lambda: self.panel.state.run.ended)
        run = self.panel.state.run
        assert run.state == "finished", run.error
        return {**found, "slices": len(run.written)}


def main():
    """Prints each result when it is there."""
    show("machine", {"processors": os.cpu_count(), "size": SIZE, "slicer": slicer.app.applicationVersion})
    panel = Panel()
    show("idle window", panel.idle())
    with slicer.util.RenderBlocker():
        for _ in range(RUNS):
            show("adding a support, views not drawn", panel.add(panel.large, remove=True))
        panel.add(panel.small)
        show("first run, torch is loaded on the way, views not drawn", panel.run())
        for _ in range(RUNS):
            show("run, views not drawn", panel.run())
    show("idle window", panel.idle())
    if os.environ.get("DRAWN", "1") != "0":
        show("adding a support, views drawn", panel.add(panel.large, remove=True))
        show("run, views drawn", panel.run())
    return 0 if panel.logic.shutdown() else 1


def show(name, result):
    """Prints a result as a line of JSON."""
    print(f"MEASURED {name}: {json.dumps(result)}", flush=True)


if __name__ == "__main__":
    try:
        code = main()
    except Exception:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    slicer.util.exit(code)
