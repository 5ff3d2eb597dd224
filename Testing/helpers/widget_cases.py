"""A panel of stand-ins over a real scene, and a logic that only writes down what it is asked."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np

from mrml_scene import add_segmentation, add_volume
from ProxyPromptSegmentModule.states import RunState

RESOURCES = Path(__file__).resolve().parents[2] / "ProxyPromptSegment" / "Resources"


class RecordedRun:
    """A run that does what a test tells it."""

    def __init__(self, request, live=False):
        self.request, self.is_live = request, live
        self.state, self.what, self.error = RunState.RUNNING, "Segmenting", ""
        self.done = self.total = 0
        self.seconds_left = self.last_index = self.job = self.forecast = None
        self.sentences, self.table, self.doubts, self.record_text = [], None, [], ""
        self.written, self.segment_ids, self.segmentation = set(), {}, None
        self.left = []
        self.refined, self.keeps_masks, self.makes_result = None, True, True
        self.idle = False
        self.cancelled = self.closed = self.undone = self.nothing_found = False
        self.found = {}  # masks by object name
        self.taken_back = []
        self._told = []

    @property
    def ended(self):
        return self.state.ended

    @property
    def closing(self):
        return self.closed or self.cancelled

    def masks(self):
        return self.found

    def observe(self, told):
        self._told.append(told)

    def tell(self):
        for told in list(self._told):
            told(self)

    def cancel(self):
        self.cancelled = True

    def close(self):
        self.closed = True
        self.end("finished")

    def undo(self):
        self.taken_back.append("undo")
        self.undone = True
        return True

    def redo(self):
        self.taken_back.append("redo")
        self.undone = False
        return True

    def writes(self, done, total, index):
        self.done, self.total, self.last_index = done, total, index
        self.seconds_left = 40.0
        self.written.add(index)
        self.tell()

    def end(self, state="finished", **results):
        self.state, self.seconds_left = RunState(state), None
        for name, value in results.items():
            setattr(self, name, value)
        self.tell()


def estimate_of(tiles=0):
    """12 s and 550 MB for the first run."""
    return types.SimpleNamespace(
        seconds=9.0, memory_bytes=300_000_000, first_time_seconds=3.0, first_time_bytes=250_000_000, tiles=tiles
    )


class RecordedLogic:
    """Takes the place of `SegmentationLogic`; a run goes on until the test ends it."""

    def __init__(self):
        import slicer

        from ProxyPromptSegmentModule.scene.segment_state import SegmentStates

        self.scene, self.runs, self.shown, self.asked = slicer.mrmlScene, [], [], []
        self.pump = types.SimpleNamespace(start=lambda: None)
        self.results = types.SimpleNamespace(observe=lambda told: None, states=SegmentStates())
        self.questions = types.SimpleNamespace(refine=self.refine, unsure=self.unsure)
        self.is_shut = False
        self.warmed, self.pieces, self.looked, self.prepared = 0, [], [], []

    def getParameterNode(self):  # noqa: N802
        import slicer

        node = self.scene.GetSingletonNode("ProxyPromptSegment", "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag("ProxyPromptSegment")
            node.SetAttribute("ModuleName", "ProxyPromptSegment")
            node = self.scene.AddNode(node)
        return node

    def start(self, request):
        self.runs.append(RecordedRun(request))
        return self.runs[-1]

    def live(self, request):
        self.runs.append(RecordedRun(request, live=True))
        return self.runs[-1]

    def show(self, run, index):
        self.shown.append(index)

    def hand(self, request, said):
        self.runs.append(RecordedRun(request, live=True))
        self.runs[-1].said = said
        return self.runs[-1]

    def look(self, run):
        self.looked.append((run, run.said()))

    def everything(self, request, choice=None):
        self.runs.append(RecordedRun(request))
        self.runs[-1].makes_result = False
        return self.runs[-1]

    def warm_up(self, settings=None):
        self.warmed += 1

    def prepare_ahead(self, request):
        self.prepared.append(request)

    def estimate_later(self, request, on_answer):
        self.asked.append(("estimate", request))
        tiles = 0 if request.settings.tiles in ("auto", "off") else 9
        on_answer(estimate_of(tiles), "")

    def check(self, cases, on_answer, leave_one_out=False, settings=None):
        self.asked.append(("check", on_answer))

    def suggest(self, target, library, on_answer, settings=None):
        self.asked.append(("suggest", on_answer))

    def why(self, run, ras, name, on_answer):
        self.asked.append(("why", ras, name, on_answer))

    def refine(self, run, how, on_end):
        self.asked.append(("refine", run, how, on_end))

    def unsure(self, run, on_answer):
        self.asked.append(("unsure", run, on_answer))

    def in_pieces(self, work):
        self.pieces.append(work)

    def shutdown(self):
        self.is_shut = True


def make_host(logic, layout):
    """What a ScriptedLoadableModuleWidget gives to the panel."""
    from slicer.util import VTKObservationMixin

    class Host(VTKObservationMixin):
        def resourcePath(self, name):  # noqa: N802
            return str(RESOURCES / name)

    host = Host()
    host.layout, host.logic = layout, logic
    return host


def forget_module():
    """Remove the module's files, which stand-ins were imported into or must be; return those that were there."""
    names = [name for name in sys.modules if name.split(".")[0] == "ProxyPromptSegmentModule"]
    return {name: sys.modules.pop(name) for name in names}


def add_case(name="earlier", objects=("prostate", "tumour"), size=24, slices=range(3, 6), shift=0):
    """An image of a box on a ramp and its segmentation, as real nodes."""
    rng = np.random.default_rng(3)
    voxels = rng.integers(0, 60, (8, size, size)).astype(np.int16)
    masks = {}
    for number, one in enumerate(objects):
        mask = np.zeros(voxels.shape, np.uint8)
        for k in slices:
            mask[k, 4 + 7 * number : 10 + 7 * number, 5 + shift : 14 + shift] = 1
        voxels[mask > 0] += 200 + 100 * number
        masks[one] = mask
    volume = add_volume(voxels, np.diag([1.0, 1.0, 4.0, 1.0]), name)
    return volume, add_segmentation(volume, masks, f"{name} annotation")


def as_result(volume, segmentation, facts=None):
    """Make the segments of a segmentation results of a volume, as a run along k leaves them."""
    from mrml_scene import segment_array
    from ProxyPromptSegmentModule.scene.facts import write_facts
    from ProxyPromptSegmentModule.scene.owners import claim
    from ProxyPromptSegmentModule.scene.slice_prints import SlicePrints, print_of
    from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG

    for segment_id in segmentation.GetSegmentation().GetSegmentIDs():
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        segment.SetTag(OBJECT_TAG, segment.GetName())
        mask = segment_array(segmentation, segment_id, volume)
        SlicePrints("k", {index: print_of(plane > 0) for index, plane in enumerate(mask)}).save(segment)
        claim(segmentation, segment_id, volume)
    if facts is not None:
        write_facts(segmentation, volume, facts)
    return segmentation


def add_views():
    """The slice views of Slicer's usual layout, and its crosshair."""
    import slicer

    made = []
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
    for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        node.SetLayoutName(name)
        node.SetOrientation(orientation)
        made.append(node)
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetLayoutName(name)
        slicer.mrmlScene.AddNode(composite)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    return made


def text_of(label):
    """What a person reads in a label."""
    return label.text.replace("<br>", "\n")


def finish(panel, run):
    """Ends a run with a segmentation of its own."""
    _volume, result = add_case("result")
    run.end("finished", segmentation=result, segment_ids={"prostate": "prostate"}, written={0, 1})
    return result
