"""What a finished run leaves in the scene beside voxels: facts and run record, and which other weights are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.imaging.dicom_seg import algorithm_name
from ProxyPromptSegmentLib.reports.run_record import record_text
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.dicom_tags import name_algorithm
from ProxyPromptSegmentModule.scene.facts import read_facts, restore_facts, result_now, text_of_facts, write_facts
from ProxyPromptSegmentModule.scene.made_with import made_with, with_earlier

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentModule.runs.run import Run
    from ProxyPromptSegmentModule.scene.segment_state import SegmentStates


def store(run: Run, node: slicer.vtkMRMLSegmentationNode, known: SegmentStates) -> None:
    """Store facts and record of a run on a volume; slices of other weights that it left are named to the user.

    Args:
        run: The run.
        node: The segmentation that it wrote into.
        known: What its segments hold.
    """
    target = run.request.target
    record = result_nodes.record_of(node, target)
    if run.before is None:
        run.before = (text_of_facts(node, target), (record.GetText() or "") if record is not None else "")
        run.record, said = with_earlier(run.record, node, target, _left(run, node, known))
        run.record_text = record_text(run.record)
        run.sentences += [said] if said else []
    if run.job is None:  # released since, and restored by a redo
        restore_facts(node, target, run.after)
        result_nodes.write_record(node, run.record_text, target)
        _name(run, node)
        return
    facts = read_facts(node, target)
    learned = facts.learned(run.job.view.axis, run.segment_ids, run.rows, run.doubts, run.written, run.confidence)
    write_facts(node, target, learned)
    run.after = text_of_facts(node, target)
    model = run.result.model if run.result is not None else None
    if model is not None:
        name_algorithm(node, run.segment_ids.values(), algorithm_name(model.name, model.sha256))
    result_nodes.write_record(node, run.record_text, target)


def store_unfinished(run: Run, node: slicer.vtkMRMLSegmentationNode) -> None:
    """Forget what is known of the slices that a run wrote before it failed: it is of what was there before."""
    if run.undone:
        if run.before is not None:
            take_back(run, node)
        return
    target = run.request.target
    if run.before is None:
        record = result_nodes.record_of(node, target)
        run.before = (text_of_facts(node, target), (record.GetText() or "") if record is not None else "")
    if run.job is not None and text_of_facts(node, target):
        facts = read_facts(node, target)
        write_facts(node, target, facts.without(run.job.view.axis, run.segment_ids.values(), run.written))


def take_back(run: Run, node: slicer.vtkMRMLSegmentationNode) -> None:
    """Restore what the scene said about a result before a run that was undone, also which model made it."""
    facts, record = run.before or ("", "")
    restore_facts(node, run.request.target, facts)
    result_nodes.write_record(node, record, run.request.target)
    _name(run, node)


def _name(run: Run, node: slicer.vtkMRMLSegmentationNode) -> None:
    """Name the model of the stored record in the segments of a run."""
    made = made_with(node, run.request.target)
    if made is not None:
        name_algorithm(node, run.segment_ids.values(), algorithm_name(made.name, made.sha256))


def _left(run: Run, node: slicer.vtkMRMLSegmentationNode, known: SegmentStates) -> set[int]:
    """Return the slices that show something which the run did not write, also in segments of other objects."""
    mine = set(run.segment_ids.values())
    states = result_now(node, run.request.target, known).states
    return {
        index for one, state in states.items() for index in state.pixels if one not in mine or index not in run.written
    }
