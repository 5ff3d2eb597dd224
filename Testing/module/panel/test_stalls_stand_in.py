"""How long the panel keeps the main thread, in processor time: other programs do not matter then."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mrml_scene import add_segmentation, add_volume
from widget_cases import RecordedLogic, text_of

MOST_SECONDS = 300
LONGEST = 0.1


@pytest.mark.slow  # a volume as large as those that made the window wait
def test_adding_300_slices_with_five_structures_never_keeps_the_window_long(make_panel, stand_ins):
    import slicer

    from ProxyPromptSegmentModule.logic import SegmentationLogic

    turns = []

    class Logic(SegmentationLogic):
        scene = slicer.mrmlScene
        getParameterNode = RecordedLogic.getParameterNode  # noqa: N815

        def _work(self):
            begun = time.thread_time()
            try:
                return super()._work()
            finally:
                turns.append(time.thread_time() - begun)

        def warm_up(self, settings=None):
            """Load nothing."""

    voxels = np.random.default_rng(3).integers(0, 400, (300, 512, 512)).astype(np.int16)
    masks = {}
    for number in range(5):
        mask = np.zeros(voxels.shape, np.uint8)
        mask[100:200, 150:350, 20 + 90 * number : 100 + 90 * number] = 1
        masks[f"part {number}"] = mask
    volume = add_volume(voxels, np.diag([0.8, 0.8, 1.0, 1.0]), "large")
    annotation = add_segmentation(volume, masks, "large annotation")
    add_volume(voxels, np.diag([0.8, 0.8, 1.0, 1.0]), "target")
    panel = make_panel(Logic())
    ui, until = panel.ui, time.monotonic() + MOST_SECONDS
    ui.supportSegmentationSelector.setCurrentNode(annotation)
    ui.supportVolumeSelector.setCurrentNode(volume)
    begun = time.thread_time()
    ui.addSupportButton.click()
    turns.append(time.thread_time() - begun)
    while not text_of(ui.estimateLabel).startswith("About ") and time.monotonic() < until:
        stand_ins.process_events()
    assert ui.supportTable.rowCount == 1 and text_of(ui.estimateLabel).startswith("About ")
    assert len(turns) > 20 and max(turns) <= LONGEST, sorted(turns)[-5:]
