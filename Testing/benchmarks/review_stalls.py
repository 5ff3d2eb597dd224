"""Processor time that reviewing costs the main thread on a large volume, in ms, as JSON; no window, real MRML.

    python Testing/benchmarks/review_stalls.py --size 300 512 512

Measured are the parts that happen at once: reading a result after a change (of which the list of cases and the tables
are made), storing case states and DICOM tags, listing the states of many cases, showing the overlay, and the longest
turn while all slices of a refined run are written.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import types
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "ProxyPromptSegment"), str(ROOT / "Testing" / "helpers")]

from mrml_scene import add_volume, make_scene

CASES = 50


def milliseconds(called) -> float:
    """Processor time of the calling thread."""
    begun = time.thread_time()
    called()
    return round((time.thread_time() - begun) * 1000, 1)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=(300, 512, 512), metavar=("K", "J", "I"))
    size = tuple(parser.parse_args().size)
    make_scene()
    import slicer

    from mrml_writing import view_of
    from ProxyPromptSegmentModule.runs.refining import Refined, Refinement
    from ProxyPromptSegmentModule.runs.request import Request
    from ProxyPromptSegmentModule.runs.run import VolumeRun
    from ProxyPromptSegmentModule.scene.case_states import states_in, update_states
    from ProxyPromptSegmentModule.scene.dicom_tags import update_types
    from ProxyPromptSegmentModule.scene.new_segments import SegmentNames
    from ProxyPromptSegmentModule.scene.overlay import Overlay
    from ProxyPromptSegmentModule.scene.segment_state import SegmentStates
    from ProxyPromptSegmentModule.scene.segment_writer import SegmentWriter, create_segmentation
    from ProxyPromptSegmentModule.states import RunState

    target = add_volume(np.zeros(size, np.int16), np.eye(4), "target")
    view = view_of(target)
    run = VolumeRun(Request(target=target, cases=()), lambda task, label: None)
    names = SegmentNames(objects=("organ",))
    run._segments.open(types.SimpleNamespace(view=view, support=names))
    rows, columns = np.mgrid[: size[1], : size[2]]
    disc = ((rows - size[1] / 2) ** 2 + (columns - size[2] / 2) ** 2 < (size[1] / 4) ** 2).astype(np.uint8)
    masks = np.repeat(view.take(disc[None].repeat(size[0], axis=0))[:, None], 1, axis=1)
    run._segments.write(list(enumerate(masks)))
    run.destination.finish()
    run.state = RunState.FINISHED
    node, known = run.segmentation, SegmentStates()
    found: dict[str, object] = {"size_kji": list(size)}
    found["reading a result after a change"] = milliseconds(lambda: update_states(node, known))
    found["case states and tags, nothing changed"] = milliseconds(
        lambda: (update_states(node, known), update_types(node, known))
    )
    overlay = Overlay()
    values = np.full(size, 100, np.uint8)
    found["showing the overlay"] = milliseconds(lambda: overlay.show(target, values))
    found["hiding it"] = milliseconds(overlay.hide)
    refined = np.roll(masks, 3, axis=-1)
    run.rewrite(Refined(Refinement(smooth=True), refined, tuple(range(size[0]))))
    turns = []
    while run.pending:
        turns.append(milliseconds(lambda: run.flush(time.perf_counter() + 0.02)))
    found["longest turn of a refined run, but the last"] = max(turns[:-1], default=0.0)
    found["its last turn"] = turns[-1]
    small = np.zeros((3, 8, 8), np.int16)
    for number in range(CASES):
        volume = add_volume(small, np.eye(4), f"case {number}")
        made = create_segmentation(volume, f"result {number}")
        SegmentWriter(made, volume, view_of(volume), names).sign()
    found[f"states of {CASES} cases"] = milliseconds(lambda: states_in(slicer.mrmlScene))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
