"""The table of supports on real MRML: what it reads is right, and the user's nodes stay as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mrml_scene import REASON, add_segmentation, add_transform, add_volume, has_mrml, matrix_of

if not has_mrml():
    pytest.skip(REASON, allow_module_level=True)

from ProxyPromptSegmentLib.errors import InputError, SupportError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.support.matching import annotated_axis
from ProxyPromptSegmentModule.supports.sources import annotation_of
from ProxyPromptSegmentModule.supports.table import SupportTable
from support_cases import PLACE, SHAPE, a_case, a_node, box, image, paint, state_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def table(scene) -> SupportTable:
    return SupportTable(a_node())


# --- adding and reading ----------------------------------------------------------------------------------------------


def test_a_support_is_read_exactly_and_the_nodes_stay_as_they_are(table) -> None:
    volume, segmentation = a_case()
    before = state_of(volume, segmentation)
    row = table.add_nodes(volume, segmentation)
    case = table.case(row.key)
    assert (row.title, row.volume_id, row.segmentation_id) == ("MRI", volume.GetID(), segmentation.GetID())
    assert [(one.name, one.slices) for one in row.objects] == [("prostate", 4), ("cyst", 1)]
    assert row.annotated == (2, 3, 4, 5) and row.slices is None and row.axis == "k" and row.ready
    assert np.array_equal(case.volume.array, image()) and case.volume.name == "MRI" and case.slices is None
    assert np.array_equal(case.segmentation.segments[0].mask, box(slice(2, 6)))
    assert case.segmentation.segments[0].color_rgb == row.objects[0].color_rgb
    case.volume.array[:] = 0
    case.segmentation.segments[0].mask[:] = 0
    table.thumbnail(row.key)
    assert state_of(volume, segmentation) == before


def test_reading_is_done_again_only_after_a_change(table, monkeypatch) -> None:
    from ProxyPromptSegmentModule.scene import masks, nodes

    reads = []
    for place, kind in ((nodes, "volume"), (masks, "segmentation")):
        name = f"{kind}_in_pieces"
        original = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, kind=kind, old=original: reads.append(f"{kind}_of") or old(*a))
    volume, segmentation = a_case()
    key = table.add_nodes(volume, segmentation).key
    first, picture = table.case(key), table.row(key).picture
    for _ in range(3):
        table.rows()
        table.thumbnail(key)
        volume.SetAttribute("seen", "1")
        segmentation.GetDisplayNode().SetOpacity(0.5)
        assert table.cases() == [first]
    assert sorted(reads) == ["segmentation_of", "volume_of"]
    paint(volume, segmentation, "cyst", box(slice(6, 8)))
    assert table.row(key).objects[1].slices == 2 and table.row(key).annotated == (2, 3, 4, 5, 6, 7)
    assert np.array_equal(table.case(key).segmentation.segments[1].mask, box(slice(6, 8)))
    assert table.row(key).picture != picture
    assert sorted(reads) == ["segmentation_of", "segmentation_of", "volume_of"], "the image has not changed"
    import slicer.util

    slicer.util.updateVolumeFromArray(volume, image(1))
    assert np.array_equal(table.case(key).volume.array, image(1)) and reads.count("volume_of") == 2


def test_a_support_is_added_in_pieces_of_a_bounded_size(table, monkeypatch) -> None:
    from ProxyPromptSegmentModule.scene import pieces

    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)  # a slice at a time
    volume, segmentation = a_case()
    work = table.adding(volume, segmentation)
    steps = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            row = end.value
            break
        steps += 1
        assert table.rows() == [], "a row that cannot be shown yet"
    # The image, each mask, and the search for annotated slices of each: one slice each time.
    assert steps >= SHAPE[0] * 3, steps
    assert [one.key for one in table.rows()] == [row.key]
    added, same = table.case(row.key), table.case(table.add_nodes(volume, segmentation, title="at once").key)
    assert np.array_equal(added.volume.array, same.volume.array)
    assert added.segmentation.names == same.segmentation.names


def test_voxels_changed_while_a_support_is_read_are_read_again(table, monkeypatch) -> None:
    import slicer.util

    from ProxyPromptSegmentModule.scene import pieces

    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    volume, segmentation = a_case()
    work = table.adding(volume, segmentation)
    for _ in range(3):
        next(work)
    slicer.util.updateVolumeFromArray(volume, image(1))
    for _ in range(SHAPE[0]):
        next(work)
    paint(volume, segmentation, "cyst", box(slice(6, 8)))
    row = pieces.at_once(work)
    case = table.case(row.key)
    assert np.array_equal(case.volume.array, image(1))
    assert np.array_equal(case.segmentation.segments[1].mask, box(slice(6, 8)))
    assert row.annotated == (2, 3, 4, 5, 6, 7)


def test_a_case_that_is_removed_while_it_is_read_is_refused_in_words(table, monkeypatch) -> None:
    import slicer

    from ProxyPromptSegmentModule.scene import pieces

    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    for gone in (0, 1):
        nodes = a_case()
        work = table.adding(*nodes)
        next(work)
        slicer.mrmlScene.RemoveNode(nodes[gone])
        with pytest.raises(InputError, match="was removed while it was read"):
            pieces.at_once(work)
        assert table.rows() == []


def test_places_are_followed(table) -> None:
    volume, segmentation = a_case()
    key = table.add_nodes(volume, segmentation).key
    first, moved = table.case(key), np.eye(4)
    moved[:3, 3] = 5, 6, 7
    transform = add_transform(moved)
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    second = table.case(key)
    assert np.allclose(np.subtract(second.volume.geometry.origin_lps, first.volume.geometry.origin_lps), (-5, -6, 7))
    assert np.array_equal(second.segmentation.segments[0].mask, box(slice(2, 6)))
    moved[0, 3] = 9
    transform.SetMatrixTransformToParent(matrix_of(moved))
    assert table.case(key).volume.geometry.origin_lps[0] == second.volume.geometry.origin_lps[0] - 4


def test_empty_objects_are_left_out_and_an_empty_support_is_refused_in_words(table) -> None:
    volume, segmentation = a_case(marked=box(slice(1, 2)), empty=np.zeros(SHAPE, np.uint8))
    key = table.add_nodes(volume, segmentation).key
    assert [one.name for one in table.row(key).objects] == ["marked"] == table.case(key).segmentation.names
    paint(volume, segmentation, "marked", np.zeros(SHAPE, np.uint8))
    row = table.row(key)
    assert "Nothing is annotated in 'MRI'" in row.problem and not row.ready and "Segment Editor" in row.problem
    with pytest.raises(SupportError, match="Nothing is annotated"):
        table.case(key)
    with pytest.raises(SupportError, match="Nothing is annotated"):
        table.cases()
    with pytest.raises(SupportError, match="Nothing is annotated in 'other'"):
        table.add_nodes(add_volume(image(), PLACE, "other"), segmentation)
    bare = add_segmentation(volume)
    with pytest.raises(SupportError, match="no segments"):
        table.add_nodes(volume, bare)
    with pytest.raises(SupportError, match="Choose a volume"):
        table.add_nodes(None, segmentation)
    with pytest.raises(InputError, match="same intensity"):
        table.add_nodes(add_volume(np.zeros(SHAPE, np.int16), PLACE, "flat"), segmentation)
    assert len(table.rows()) == 1


def test_an_image_that_goes_bad_is_told_in_its_row(table) -> None:
    import slicer.util

    volume, segmentation = a_case()
    key = table.add_nodes(volume, segmentation).key
    slicer.util.updateVolumeFromArray(volume, np.zeros(SHAPE, np.int16))
    with pytest.raises(InputError, match="same intensity"):
        table.cases()
    assert "same intensity" in table.row(key).problem and not table.row(key).ready
    slicer.util.updateVolumeFromArray(volume, image(3))
    assert table.row(key).ready and np.array_equal(table.case(key).volume.array, image(3))


# --- objects and segments --------------------------------------------------------------------------------------------


def test_chosen_segments_are_followed_through_renaming_and_removal(table) -> None:
    volume, segmentation = a_case(a=box(slice(1, 3)), b=box(slice(2, 4)), c=box(slice(5, 6)))
    key = table.add_nodes(volume, segmentation, ["b", "c"]).key
    assert [one.name for one in table.row(key).objects] == ["b", "c"] and table.row(key).annotated == (2, 3, 5)
    segmentation.GetSegmentation().GetSegment("b").SetName("gland")
    assert table.case(key).segmentation.names == ["gland", "c"]
    kept = segmentation.GetSegmentation().GetSegment("b")
    kept.Register(None)
    segmentation.GetSegmentation().RemoveSegment("b")
    assert table.case(key).segmentation.names == ["c"]
    segmentation.GetSegmentation().RemoveSegment("c")
    row = table.row(key)
    assert "used as a support" in row.problem and "no longer exist" in row.problem and row.volume_id == volume.GetID()
    segmentation.GetSegmentation().AddSegment(kept, "b")
    assert table.case(key).segmentation.names == ["gland"]
    with pytest.raises(SupportError, match=r"no segment 'z'.*'a', 'gland'"):
        table.add_nodes(volume, segmentation, ["z"])
    with pytest.raises(SupportError, match="No segment"):
        table.add_nodes(volume, segmentation, [])


def test_all_segments_includes_those_that_come_later(table) -> None:
    volume, segmentation = a_case(a=box(slice(1, 3)))
    key = table.add_nodes(volume, segmentation).key
    segmentation.GetSegmentation().AddEmptySegment("late", "late")
    assert [one.name for one in table.row(key).objects] == ["a"]
    paint(volume, segmentation, "late", box(slice(0, 1)))
    assert [one.name for one in table.row(key).objects] == ["a", "late"]


def test_objects_of_the_same_name_in_two_segmentations_are_one_choice(table) -> None:
    one = table.add_nodes(*a_case("one", prostate=box(slice(1, 3)), cyst=box(slice(2, 3))))
    two = table.add_nodes(*a_case("two", 1, bladder=box(slice(4, 5)), Prostate=box(slice(2, 4))))
    assert [(c.name, c.supports, c.of, c.everywhere) for c in table.objects()] == [
        ("prostate", 2, 2, True), ("cyst", 1, 2, False), ("bladder", 1, 2, False)
    ]  # fmt: skip
    assert table.objects()[0].color_rgb == one.objects[0].color_rgb
    assert [case.volume.name for case in table.cases(["PROSTATE"])] == ["one", "two"]
    assert table.cases(["bladder"]) == [table.case(two.key)]
    with pytest.raises(SupportError, match=r"No support in use has 'cyst', 'bladder'"):
        table.cases(["cyst", "bladder"])
    job = plan(table.cases(), Volume(image(2).astype(np.float32), table.case(one.key).volume.geometry))
    assert job.support.objects == ("prostate",) and {shown.name for shown in job.shown} == {"one", "two"}
    table.use(two.key, False)
    assert [choice.name for choice in table.objects()] == ["prostate", "cyst"] and len(table.cases()) == 1


def test_two_segments_of_one_name_are_refused_in_words(table) -> None:
    volume, segmentation = a_case(a=box(slice(1, 3)), b=box(slice(2, 4)))
    key = table.add_nodes(volume, segmentation).key
    segmentation.GetSegmentation().GetSegment("b").SetName(" A ")
    problem = table.row(key).problem
    assert "differ only by capitals" in problem and "'a', ' A '" in problem and "Rename them, or use one" in problem
    segmentation.GetSegmentation().GetSegment("b").SetName("a")
    assert "are named 'a'; rename them" in table.row(key).problem
    segmentation.GetSegmentation().GetSegment("b").SetName("b")
    assert table.row(key).ready


# --- slices ----------------------------------------------------------------------------------------------------------


def test_slices_are_chosen_or_all_or_left_to_the_program(table) -> None:
    volume, segmentation = a_case()
    key = table.add_nodes(volume, segmentation, slices=[4, 2]).key
    row = table.row(key)
    assert row.slices == (2, 4) and not row.whole and [one.shown for one in row.objects] == [True, False]
    assert table.case(key).slices == (2, 4) and table.case(key).segmentation.names == ["prostate"]
    target = Volume(image(2).astype(np.float32), table.case(key).volume.geometry)
    assert [shown.index for shown in plan(table.cases(), target).shown] == [2, 4]
    row = table.choose(key, "all")
    assert row.slices == (2, 3, 4, 5) and row.whole and all(one.shown for one in row.objects)
    assert len(plan(table.cases(), target, max_slices=2).support) == 4, "all means all"
    paint(volume, segmentation, "prostate", box(slice(1, 7)))
    assert table.row(key).slices == (1, 2, 3, 4, 5, 6)
    assert table.choose(key).slices is None
    assert len(plan(table.cases(), target, max_slices=2).support) == 2
    for wrong in ([0], [2, 99], [-1], []):
        with pytest.raises(SupportError, match=r"annotated are 1-6"):
            table.choose(key, wrong)
    with pytest.raises(SupportError, match="'all'"):
        table.choose(key, "some")


def test_chosen_slices_that_lose_their_annotation_are_left_out(table) -> None:
    volume, segmentation = a_case(a=box(slice(1, 5)))
    key = table.add_nodes(volume, segmentation, slices=[1, 2]).key
    paint(volume, segmentation, "a", box(slice(2, 5)))
    assert table.row(key).slices == (2,) == table.case(key).slices
    paint(volume, segmentation, "a", box(slice(3, 5)))
    assert "annotated are 3-4" in table.row(key).problem
    paint(volume, segmentation, "a", box(slice(1, 5)))
    assert table.row(key).slices == (1, 2)


def test_adding_the_same_nodes_again_adds_slices_and_no_row(table) -> None:
    volume, segmentation = a_case()
    first = table.add_nodes(volume, segmentation, slices=[2])
    table.use(first.key, False)
    again = table.add_nodes(volume, segmentation, slices=[4])
    assert again.key == first.key and again.slices == (2, 4) and again.used
    assert table.add_nodes(volume, segmentation, ["prostate"]).key != first.key
    assert len(table.rows()) == 2


@settings(max_examples=40, deadline=None)
@given(
    some.tuples(*[some.integers(1, 14)] * 3),
    some.tuples(*[some.sampled_from([0.5, 0.6, 1.0, 3.0])] * 3),
    some.lists(some.tuples(*[some.integers(0, 13)] * 3, *[some.integers(1, 14)] * 3), min_size=1, max_size=3),
)
def test_the_axis_of_a_row_is_that_of_the_engine(size, spacing, boxes) -> None:
    geometry = VolumeGeometry(size, spacing)
    segments = []
    for number, (k, j, i, *extent) in enumerate(boxes):
        mask = np.zeros(geometry.shape_kji, np.uint8)
        mask[k : k + extent[0], j : j + extent[1], i : i + extent[2]] = 1
        segments.append(Segment(f"s{number}", mask))
    segmentation = Segmentation(segments, geometry)
    found = annotation_of(segmentation)
    volume = Volume(np.zeros(geometry.shape_kji, np.float32), geometry)
    assert found.axis == annotated_axis(volume, segmentation)
    for one in found.objects:
        mask = next(segment.mask for segment in segments if segment.name == one.name)
        for number, axis in enumerate("kji"):
            others = tuple(n for n in range(3) if n != number)
            assert one.slices[axis] == tuple(np.flatnonzero(mask.any(axis=others)))


def test_nothing_heavy_is_imported_to_read_supports(tmp_path) -> None:
    code = (
        "import sys, support_cases as t; from mrml_scene import make_scene; make_scene(); "
        "from ProxyPromptSegmentModule.supports.table import SupportTable; "
        "table = SupportTable(t.a_node()); key = table.add_nodes(*t.a_case()).key; table.cases(); "
        "heavy = 'torch', 'SimpleITK', 'scipy', 'PIL', 'qt'; "
        "print(table.thumbnail(key).any(), [name for name in heavy if name in sys.modules])"
    )
    path = os.pathsep.join(str(ROOT / part) for part in ("", "Testing/helpers", "ProxyPromptSegment"))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True []", done.stderr
