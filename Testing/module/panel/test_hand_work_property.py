"""Whatever is done in whatever order, on two cases: what the user drew stays, and the panel's numbers are true.

The panel has stand-ins for Slicer's widgets; scene, logic, runs, segments and bundles are real. The network is not
there: its masks are random, so that each run writes something else.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mrml_scene import segment_array
from widget_cases import RecordedLogic, add_case, add_views

ACTIONS = (
    *("apply", "paint", "erase", "undo", "redo", "switch target", "switch support", "use corrected slice"),
    *("delete segment", "delete node", "save and load", "cancel"),
)
IMAGES = ("case 1", "case 2")


class Session:
    """A panel, and what its user knows: the planes drawn by hand, by (segmentation, segment, slice)."""

    def __init__(self, panel, stand_ins, folder):
        import slicer

        self.panel, self.stand_ins, self.folder, self.slicer = panel, stand_ins, folder, slicer
        self.saved = 0

    def begin(self):
        """An empty scene with a support and two targets."""
        self.slicer.mrmlScene.Clear(0)
        self.drawn = {}
        for name in ("earlier 1", "earlier 2"):
            add_case(name, objects=("prostate",))
        for shift, name in enumerate(IMAGES):
            add_case(name, objects=(), shift=shift)
        add_views()
        self.panel.enter()
        for number in (1, 2):
            self.panel.ui.supportSegmentationSelector.setCurrentNode(self.node(f"earlier {number} annotation"))
            self.panel.ui.addSupportButton.click()
        self.panel.ui.targetSelector.setCurrentNode(self.node(IMAGES[0]))
        self.kept = {name: self.bytes_of(name) for name in ("earlier 1", "earlier 2", *IMAGES)}

    def node(self, name):
        return self.slicer.mrmlScene.GetFirstNodeByName(name)

    def bytes_of(self, name):
        """The voxels of an image, and those of its annotation."""
        volume, annotation = self.node(name), self.node(f"{name} annotation")
        marks = segment_array(annotation, "prostate", volume).tobytes() if name.startswith("earlier") else b""
        return self.slicer.util.arrayFromVolume(volume).tobytes() + marks

    def result(self):
        """The result of the selected target: segmentation, segment, volume; None if there is none."""
        from ProxyPromptSegmentModule.scene.owners import result_segments

        node, target = self.panel.state.segmentation, self.panel.state.parameters.targetVolume
        ids = list(result_segments(node, target)) if node is not None else []
        return (node, ids[-1], target) if ids else None

    def settle(self):
        """Runs and timers come to rest."""
        logic = self.panel.host.logic
        for _ in range(400):
            if not logic._work():
                break
        logic.results.refresh()
        self.panel.refresh()

    # --- actions ----------------------------------------------------------------------------------------------

    def apply(self, seed):
        if self.panel.ui.applyButton.enabled and self.panel.ui.applyButton.text == "Apply":
            self.panel.ui.applyButton.click()
            for _ in range(seed % 25):  # the next action may come while it runs
                self.panel.host.logic._work()
            if seed % 3:
                self.settle()

    def cancel(self, seed):
        if self.panel.ui.applyButton.text == "Cancel" and self.panel.ui.applyButton.enabled:
            self.panel.ui.applyButton.click()
        self.settle()

    def paint(self, seed, value=1):
        found = self.result()
        if found is None:
            return
        node, segment_id, volume = found
        mask = segment_array(node, segment_id, volume)
        index, rng = seed % len(mask), np.random.default_rng(seed)
        place = rng.random(mask.shape[1:]) > 0.7
        before = mask[index].copy()
        mask[index][place] = value
        if np.array_equal(before, mask[index]):
            return
        self.slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, volume)
        seen, values = self.drawn.get(
            (node.GetName(), segment_id, index), (np.zeros_like(place), np.zeros_like(before))
        )
        values = np.where(place, value, values)
        self.drawn[node.GetName(), segment_id, index] = (seen | place, values)

    def erase(self, seed):
        self.paint(seed, 0)

    def undo(self, seed):
        if self.panel.ui.undoButton.enabled and not self.panel.state.running:
            self.panel.ui.undoButton.click()

    def redo(self, seed):
        if self.panel.ui.redoButton.enabled and not self.panel.state.running:
            self.panel.ui.redoButton.click()

    def switch_target(self, seed):
        self.panel.ui.targetSelector.setCurrentNode(self.node(IMAGES[seed % 2]))

    def switch_support(self, seed):
        item = self.panel.ui.supportTable.item(seed % 2, 0)
        if item is not None:
            qt = self.stand_ins.QtCore.Qt
            item.setCheckState(qt.Unchecked if item.checkState() == qt.Checked else qt.Checked)

    def use_corrected_slice(self, seed):
        from ProxyPromptSegmentModule.scene.slice_views import show_slice

        found = self.result()
        if found is not None and not self.panel.state.running:
            show_slice(self.slicer.mrmlScene, found[2], "k", seed % 8)
            self.panel.refresh()
            if self.panel.ui.useCorrectedButton.enabled:
                self.panel.ui.useCorrectedButton.click()

    def delete_segment(self, seed):
        found = self.result()
        if found is not None:
            node, segment_id, _volume = found
            node.GetSegmentation().RemoveSegment(segment_id)
            self.forget(lambda name, one: name == node.GetName() and one == segment_id)

    def delete_node(self, seed):
        found = self.result()
        if found is not None:
            name = found[0].GetName()
            self.slicer.mrmlScene.RemoveNode(found[0])
            self.forget(lambda other, one: other == name)

    def forget(self, gone):
        self.drawn = {key: value for key, value in self.drawn.items() if not gone(*key[:2])}

    def save_and_load(self, seed):
        self.saved += 1
        folder, path = self.folder / f"s{self.saved}", self.folder / f"s{self.saved}.mrb"
        folder.mkdir()
        target = self.panel.state.parameters.targetVolume
        name = target.GetName() if target is not None else IMAGES[0]
        self.settle()
        self.slicer.mrmlScene.SetRootDirectory(str(folder))
        assert self.slicer.mrmlScene.WriteToMRB(str(path))
        self.slicer.mrmlScene.Clear(0)
        assert self.slicer.app.applicationLogic().OpenSlicerDataBundle(str(path), str(folder))
        self.panel.use_parameter_node()
        self.panel.ui.targetSelector.setCurrentNode(self.node(name))

    # --- what must hold ---------------------------------------------------------------------------------------

    def check(self):
        """Images and annotations are untouched, what was drawn by hand is there, and the numbers are true."""
        for name, before in self.kept.items():
            assert self.bytes_of(name) == before, f"{name} was changed"
        from ProxyPromptSegmentModule.scene.owners import volume_of_segment

        for (name, segment_id, index), (seen, values) in self.drawn.items():
            node = self.node(name)
            assert node is not None and node.GetSegmentation().GetSegment(segment_id) is not None, "hand work is gone"
            mask = segment_array(node, segment_id, volume_of_segment(node, segment_id))
            assert np.array_equal(mask[index][seen], values[seen]), f"hand work on slice {index} of {name} was changed"
        if not self.panel.state.running:
            self.check_numbers()

    def check_numbers(self):
        from ProxyPromptSegmentModule.scene import result_nodes
        from ProxyPromptSegmentModule.scene.owners import result_segments

        self.panel.host.logic.results.refresh()
        self.panel.refresh()
        target, node, table = self.panel.state.parameters.targetVolume, self.panel.state.segmentation, self.panel.ui
        ids = list(result_segments(node, target)) if node is not None else []
        if not ids:
            assert table.resultsTable.real.isHidden()
            return
        assert table.resultsTable.rowCount == len(ids)
        saved = result_nodes.table_of(node)
        names = [saved.GetColumnName(n) for n in range(saved.GetNumberOfColumns())] if saved is not None else []
        for row, segment_id in enumerate(ids):
            mask = segment_array(node, segment_id, target)
            shown = [table.resultsTable.item(row, n).text() for n in range(3)]
            millilitres = mask.sum() * np.prod(target.GetSpacing()) / 1000
            assert shown[1] == f"{round(millilitres, 3):.3g}" and shown[2] == str(int(mask.any(axis=(1, 2)).sum()))
            if saved is not None:
                mine = [
                    n
                    for n in range(saved.GetNumberOfRows())
                    if saved.GetCellText(n, names.index("Image")) == target.GetName()
                ]
                assert float(saved.GetCellText(mine[row], names.index("Voxels"))) == mask.sum()


@pytest.fixture
def session(make_panel, stand_ins, tmp_path):
    import slicer

    from ProxyPromptSegmentModule.logic import SegmentationLogic
    from scripted_worker import ScriptedWorker

    class Logic(SegmentationLogic):
        scene = slicer.mrmlScene
        getParameterNode = RecordedLogic.getParameterNode  # noqa: N815

        def __init__(self):
            super().__init__()
            self.worker = ScriptedWorker()

        def estimate_later(self, request, on_answer):
            RecordedLogic.estimate_later(self, request, on_answer)

        def warm_up(self, settings=None):
            """Load nothing."""

    Logic.asked = []
    return Session(make_panel(Logic()), stand_ins, tmp_path)


SEQUENCES = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1000)), max_size=12)
ANY_TIME = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


def carry_out(session, actions):
    """Do one after another; check what must hold after each."""
    session.begin()
    session.apply(1)  # most sequences begin with a result
    for name, seed in actions:
        getattr(session, name.replace(" ", "_"))(seed)
        session.check()
    session.settle()
    session.check()


@settings(max_examples=4, **ANY_TIME)
@given(actions=SEQUENCES)
@example([("paint", 3), ("undo", 0)])
@example([("paint", 3), ("apply", 1), ("undo", 0), ("redo", 0), ("save and load", 0), ("erase", 4), ("apply", 4)])
def test_hand_work_and_numbers_survive_any_sequence_of_actions(session, actions):
    carry_out(session, actions)


@pytest.mark.slow
@settings(max_examples=30, **ANY_TIME)
@given(actions=SEQUENCES)
def test_hand_work_and_numbers_survive_many_sequences_of_actions(session, actions):
    carry_out(session, actions)
