"""Times the writing of one slice into a segmentation of many: ours, beside Slicer's own way, as JSON.

Example::

    python Testing/benchmarks/write_slice.py --shape 300 512 512 --output write_slice.json

Milliseconds of the clock (what the user waits) and of the processor (what other load on the machine does not disturb),
median and largest over the slices. Slicer's `updateSegmentBinaryLabelmapFromArray` replaces the whole segment, so a
slice costs a whole volume; it is called a few times only. Rendering is not part of it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "ProxyPromptSegment"), str(ROOT / "Testing" / "helpers")]

from hardware import processor

from mrml_scene import add_volume, make_scene


def main() -> None:
    """Runs the benchmark named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(300, 512, 512), metavar=("K", "J", "I"))
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--slicer-calls", type=int, default=5, help="how often Slicer's own way is timed")
    parser.add_argument("--output", dest="out", type=Path, help="JSON file; standard output without it")
    options = parser.parse_args()
    make_scene()
    shape = tuple(options.shape)
    volume = add_volume(np.zeros(shape, np.int16), np.diag([0.7, 0.7, 1.5, 1.0]))
    masks = discs(options.objects, shape)
    report = {
        "shape": dict(zip("KJI", shape, strict=True)),
        "objects": options.objects,
        "hardware": {"processor": processor(), "platform": platform.platform()},
        "versions": versions(),
        "milliseconds": {
            "fresh segments": fresh(volume, masks),
            "a segment out of a shared layer": shared(volume, masks),
            "masked and overwriting": masked(volume, masks),
            "updateSegmentBinaryLabelmapFromArray": by_slicer(volume, masks, options.slicer_calls),
        },
    }
    text = json.dumps(report, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def discs(objects: int, shape: tuple[int, ...]) -> np.ndarray:
    """Something like an organ on every slice, ``(K, N, J, I)``."""
    k, j, i = np.indices((shape[0], 1, 1))[0], np.arange(shape[1])[:, None], np.arange(shape[2])
    radius = shape[1] * (0.15 + 0.1 * np.sin(k / shape[0] * np.pi))
    one = ((j - shape[1] / 2) ** 2 + (i - shape[2] / 2) ** 2 < radius**2).astype(np.uint8)
    return np.repeat(one[:, None], objects, axis=1)


def writer_of(node, volume, objects: int, **more):
    """A writer along k, slices as they are stored."""
    from ProxyPromptSegmentLib.imaging.geometry import slice_view
    from ProxyPromptSegmentModule.scene import nodes
    from ProxyPromptSegmentModule.scene.segment_writer import SegmentNames, SegmentWriter

    view = slice_view(nodes.geometry_of(volume), "k", oriented=False)
    return SegmentWriter(node, volume, view, SegmentNames(objects=tuple(f"object {n}" for n in range(objects))), **more)


def fresh(volume, masks: np.ndarray) -> dict[str, float]:
    """Into segments that the run makes."""
    from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation

    return timed_run(lambda: writer_of(create_segmentation(volume, "fresh"), volume, masks.shape[1]), masks)


def shared(volume, masks: np.ndarray) -> dict[str, float]:
    """Into a segment that lies with another in one layer of the whole volume, as after loading a file."""
    node, ids = in_one_layer(volume)
    given = {"object 0": ids[0]}
    return timed_run(lambda: writer_of(node, volume, masks.shape[1], segment_ids=given), masks)


def masked(volume, masks: np.ndarray) -> dict[str, float]:
    """Outside of a visible segment, while all others are overwritten."""
    import slicer

    node, _ = in_one_layer(volume)
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideVisibleSegments)
    node.GetDisplayNode().SetSegmentVisibility(node.GetSegmentation().GetNthSegmentID(0), False)
    editor.SetOverwriteMode(editor.OverwriteAllSegments)
    return timed_run(lambda: writer_of(node, volume, masks.shape[1], editor_node=editor), masks)


def by_slicer(volume, masks: np.ndarray, calls: int) -> dict[str, float]:
    """One slice more each time, written by Slicer's own function."""
    import slicer.util

    from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation

    node = create_segmentation(volume, "slicer")
    segment_id = node.GetSegmentation().AddEmptySegment("")
    array = np.zeros(masks[:, 0].shape, np.uint8)

    def write(index: int) -> None:
        array[index] = masks[index, 0]
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, volume)

    return timed(write, range(calls))


def in_one_layer(volume):
    """A segmentation with two segments in one labelmap that covers the volume."""
    import slicer.util

    from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation

    node = create_segmentation(volume, "shared")
    shape = slicer.util.arrayFromVolume(volume).shape
    ids = []
    for part in (slice(0, shape[2] // 2), slice(shape[2] // 2, shape[2])):
        array = np.zeros(shape, np.uint8)
        array[..., part] = 1
        ids.append(node.GetSegmentation().AddEmptySegment(""))
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, ids[-1], volume)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    return node, ids


def timed_run(make, masks: np.ndarray) -> dict[str, float]:
    """A whole run: making the writer, every slice, undo and redo."""
    start = time.perf_counter()
    writer = make()
    result = {"preparing": round(1e3 * (time.perf_counter() - start), 2)}
    result |= timed(lambda index: writer.write(index, masks[index]), range(len(masks)))
    for name in ("undo", "redo"):
        start = time.perf_counter()
        getattr(writer, name)()
        result[name] = round(1e3 * (time.perf_counter() - start), 2)
    return result


def timed(write, indices) -> dict[str, float]:
    """Median and largest milliseconds of a call."""
    clock, processor_time = [], []
    for index in indices:
        start, busy = time.perf_counter(), time.process_time()
        write(index)
        clock.append(1e3 * (time.perf_counter() - start))
        processor_time.append(1e3 * (time.process_time() - busy))
    return {
        "median": round(float(np.median(clock)), 3),
        "max": round(max(clock), 3),
        "processor median": round(float(np.median(processor_time)), 3),
        "processor max": round(max(processor_time), 3),
        "calls": len(clock),
    }


def versions() -> dict[str, str]:
    """What ran."""
    import slicer
    import vtk

    application = getattr(slicer.app, "applicationVersion", None)
    return {
        "vtk": vtk.vtkVersion.GetVTKVersion(),
        "slicer": str(application or core_version()),
        "numpy": np.__version__,
    }


def core_version() -> str:
    """Version of slicer-core."""
    from importlib import metadata

    try:
        return "slicer-core " + metadata.version("slicer-core")
    except metadata.PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    main()
