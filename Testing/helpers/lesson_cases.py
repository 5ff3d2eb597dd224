"""Annotated cases in a real scene, and settings with which a small model learns from them in seconds."""

from __future__ import annotations

import time

import numpy as np

from adapt_cases import picture
from mrml_scene import add_segmentation, add_volume

TINY = {"model": "small", "steps": 2, "variants": 1, "targets": 4, "threads": 1, "shares": (1.0,)}
MOST_SECONDS = 240
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def add_taught_case(seed, name, objects=("gland",), segmentation_name="", empty=False):
    """A volume with bright squares, and its segmentation, as real nodes."""
    volume, marks = picture(seed, objects)
    node = add_volume(volume.array, LPS_RAS @ volume.geometry.affine, name)
    masks = {one.name: one.mask * (0 if empty else 1) for one in marks.segments}
    return node, add_segmentation(node, masks, segmentation_name or f"{name} annotation")


def until(stand_ins, done, what="it"):
    """Lets Qt live until something is so."""
    end = time.monotonic() + MOST_SECONDS
    while not done():
        assert time.monotonic() < end, f"{what} did not happen"
        stand_ins.process_events()


def lines(panel):
    """The texts of the list of cases with their ticks."""
    from PySide6.QtCore import Qt

    listed = panel.ui.teachCasesList
    items = [listed.item(number) for number in range(listed.count)]
    return {item.text(): item.checkState() == Qt.CheckState.Checked for item in items}


def taught(panel, stand_ins):
    """Presses Teach and waits for the end."""
    from widget_cases import text_of

    panel.ui.teachStartButton.click()
    lesson = panel.state.lesson
    assert lesson is not None, text_of(panel.ui.teachMessageLabel)
    until(stand_ins, lambda: lesson.ended, "the end of the lesson")
    return lesson


def files(folder):
    """The files of a folder, by their relative paths."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
