"""Volume-level jobs: planes and orientations, several supports, stopping, notes; planning needs no network."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import COLORS, GRID, TERMS, TURN, InContextModel, a_case, turned, write_case
from plain_run import run
from ProxyPromptSegmentLib.errors import SupportError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.volume_result import put_back
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.case import SupportCase, read_support_case
from ProxyPromptSegmentLib.support.matching import annotated_axis, choose_axes, differences, plane_of

CUBIC = VolumeGeometry((24, 20, 40), (1, 1, 1))


@pytest.fixture
def segmenter() -> Segmenter:
    """Judges each slice on its own, so that voxels can be compared one by one."""
    return Segmenter(InContextModel(), "cpu", batch=2, across_slices=False)


def a_support(seed: int = 1, **options: object) -> SupportCase:
    volume, marks = a_case(seed, **options)  # type: ignore[arg-type]
    return SupportCase(volume, marks)


def cubic_case(mark: tuple[slice, slice, slice] = (slice(20, 23), slice(2, 18), slice(4, 20))):
    """A volume of cubic voxels whose longest axis is k, with a few axial slices annotated."""
    volume = Volume(np.random.default_rng(0).normal(size=CUBIC.shape_kji).astype(np.float32), CUBIC, "cubic")
    mask = np.zeros(CUBIC.shape_kji, np.uint8)
    mask[mark] = 1
    return volume, Segmentation([Segment("organ", mask)], CUBIC)


# --- planes and orientations ---------------------------------------------------------------------------------------


def test_a_support_stored_upside_down_prompts_as_if_it_were_not(segmenter) -> None:
    target = a_case(2)[0]
    straight = run(segmenter, plan([a_support()], target))
    volume, marks = turned(a_case(1), (0, 2, 1), (0, 1))
    job = plan([SupportCase(volume, marks)], target)
    assert {pair.image.tobytes() for pair in job.support.pairs} == {
        pair.image.tobytes() for pair in plan([a_support()], target).support.pairs
    }
    np.testing.assert_array_equal(run(segmenter, job).masks, straight.masks)


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (1,)), ((0, 2, 1), (0, 2)), ((2, 1, 0), (1, 2))])
def test_the_network_sees_a_target_the_same_way_however_it_is_stored(order, flips) -> None:
    straight, stored = (
        plan([a_support()], a_case(2)[0]),
        plan([a_support()], turned(a_case(2), order, flips)[0]),
    )
    seen = [{picture.tobytes() for picture in job.view.take(job.target.array)} for job in (straight, stored)]
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (0, 1, 2)), ((1, 2, 0), (0,)), ((2, 1, 0), (1, 2))])
def test_masks_come_back_to_the_voxels_they_were_looked_at_in(segmenter, order, flips) -> None:
    oblique = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, GRID.origin_lps, TURN)
    volume, truth = turned(a_case(2, oblique), order, flips)
    outcome = run(segmenter, plan([a_support()], volume))
    assert outcome.segmentation.geometry is volume.geometry
    for segment, marked in zip(outcome.segmentation.segments, truth.segments, strict=True):
        assert dice(marked.mask, segment.mask) == 1.0


def test_an_axial_support_and_a_thick_coronal_target_are_told_apart() -> None:
    coronal = turned(a_case(2), (0, 1, 2), ())[0]
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)  # k runs to posterior
    coronal = Volume(coronal.array, VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, (0, 0, 0), turn), "coronal")
    assert plane_of(coronal.geometry, "k") == "coronal"
    notes = plan([a_support()], coronal).notes
    assert any("are axial" in note.text and "are coronal" in note.text for note in notes)


def test_a_cubic_target_is_cut_in_the_plane_of_a_thick_support() -> None:
    target, _ = cubic_case()
    thick = a_support()
    axis, axes, notes = choose_axes([(thick.volume, thick.segmentation)], target)
    assert (axis, axes, notes) == ("k", ["k"], [])
    assert choose_axes([(target, cubic_case()[1])], target)[0] == "k"


def test_sparse_annotations_of_a_cubic_volume_show_the_plane_they_were_drawn_in() -> None:
    assert annotated_axis(*cubic_case()) == "k"  # although j has the fewest samples
    assert annotated_axis(*cubic_case((slice(5, 35), slice(3, 17), slice(10, 11)))) == "i"
    assert annotated_axis(*cubic_case((slice(5, 15), slice(3, 13), slice(4, 14)))) == "j"  # compact: the acquired axis


def test_an_explicit_axis_turns_a_cubic_support_the_same_way() -> None:
    target, marks = cubic_case()
    axis, axes, _ = choose_axes([(target, marks)], target, "i")
    assert (axis, axes) == ("i", ["i"])


def test_slices_chosen_along_another_axis_than_the_targets_are_not_taken_for_its_own() -> None:
    volume, marks = cubic_case()
    along_k = SupportCase(volume, marks, (21, 22), axis="k")
    assert [shown.index for shown in plan([along_k], volume, axis="k").shown] == [21, 22]
    job = plan([along_k], volume, axis="i")  # 21 and 22 along i show nothing
    assert any("were chosen along k" in note.text for note in job.notes)
    assert all(4 <= shown.index < 20 for shown in job.shown)
    with pytest.raises(SupportError, match="no annotation"):
        plan([SupportCase(volume, marks, (21, 22))], volume, axis="i")


def test_what_is_alike_gives_no_note_and_the_support_itself_gives_one(tmp_path) -> None:
    assert plan([a_support()], a_case(2)[0]).notes == ()
    image, mask = write_case(tmp_path, "same", a_case(1))
    case = read_support_case(image, mask)
    notes = differences([(case.volume, "k")], read_support_case(image, mask).volume, "k")
    assert ["is the support itself" in note.text for note in notes] == [True]
    copy = read_support_case(*write_case(tmp_path, "copy", a_case(1))).volume  # as the library holds it
    notes = differences([(case.volume, "k")], copy, "k")
    assert ["is the support itself" in note.text for note in notes] == [True]
    copy.array[-1, -1, -1] += 1
    assert differences([(case.volume, "k")], copy, "k") == []


# --- supports ------------------------------------------------------------------------------------------------------


def test_at_most_eight_slices_of_all_supports_together_are_chosen_and_where_from_is_known() -> None:
    job = plan([a_support(1), a_support(2), a_support(3)], a_case(4)[0])
    assert len(job.support) == len(job.shown) == 9  # three of each: shares are rounded up
    assert [shown.case for shown in job.shown] == [0] * 3 + [1] * 3 + [2] * 3
    assert [shown.index for shown in job.shown] == [pair.slice_index for pair in job.support.pairs]
    first = job.shown[0]
    case = a_support(1)
    np.testing.assert_array_equal(job.support.pairs[0].image, case.volume.array[first.index])
    assert first.objects == tuple(s.name for s in case.segmentation.segments if s.mask[first.index].any())


def test_supports_without_a_common_object_are_refused() -> None:
    with pytest.raises(SupportError, match="no annotated object in common"):
        plan([a_support(1, objects=("gland",)), a_support(2, objects=("stone",))], a_case(3)[0])


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    case = read_support_case(*write_case(tmp_path / "a", "t2", a_case(1)))
    job = plan([case], read_support_case(*write_case(tmp_path / "b", "t2", a_case(2))).volume)
    assert (job.shown[0].name, job.name) == ("a/t2", "b/t2")
    assert plan([a_support()], a_case(2, name="other")[0]).name == "other"


def test_a_named_object_that_one_support_lacks_is_refused() -> None:
    with pytest.raises(SupportError, match="no object named 'stone'"):
        plan([a_support(1), a_support(2, objects=("gland",))], a_case(3)[0], ["stone"])


def test_no_support_is_refused() -> None:
    with pytest.raises(SupportError, match="at least one"):
        plan([], a_case(1)[0])


def test_segments_keep_the_supports_names_colours_and_terminologies(segmenter) -> None:
    segments = run(segmenter, plan([a_support()], a_case(2)[0])).segmentation.segments
    assert [(s.name, s.color_rgb, s.terminology) for s in segments] == [
        ("gland", COLORS["gland"], TERMS), ("stone", COLORS["stone"], None)
    ]  # fmt: skip


# --- running -------------------------------------------------------------------------------------------------------


def test_cancelling_from_a_slice_keeps_the_slices_before(segmenter) -> None:
    cancel, seen = CancelToken(), []

    def on_slice(prediction: object) -> None:
        seen.append(prediction.index)  # type: ignore[attr-defined]
        cancel.cancel()

    case = a_case(2)
    outcome = run(segmenter, plan([a_support()], case[0]), cancel=cancel, on_slice=on_slice)
    assert outcome.cancelled
    assert seen == [0, 1]
    np.testing.assert_array_equal(outcome.segmentation.segments[0].mask[:2], case[1].segments[0].mask[:2])
    assert not outcome.segmentation.segments[0].mask[2:].any()


def test_the_threshold_decides_which_voxels_belong(segmenter) -> None:
    job = plan([a_support()], a_case(2)[0])
    strict = run(segmenter, job, threshold=0.99999).segmentation.segments[0].mask.sum()
    loose = run(segmenter, job, threshold=0.5).segmentation.segments[0].mask.sum()
    assert strict < loose


def test_an_object_that_is_nowhere_gives_an_empty_segment_and_a_note(segmenter) -> None:
    outcome = run(segmenter, plan([a_support()], a_case(2, objects=("stone",))[0]))
    gland, stone = outcome.segmentation.segments
    assert not gland.mask.any()
    assert stone.mask.any()
    assert len(outcome.notes) == 1
    assert "resembles 'gland'" in outcome.notes[0].text


def test_a_threshold_that_nothing_reaches_is_told_differently(segmenter) -> None:
    outcome = run(segmenter, plan([a_support()], a_case(2)[0]), threshold=1 - 1e-9)
    assert all(note.remedy == Remedy(kind=RemedyKind.LOWER_THRESHOLD) for note in outcome.notes)
    assert len(outcome.notes) == 2


def test_wanted_slices_beyond_the_target_are_refused() -> None:
    for slices in ([6], [-1], []):
        with pytest.raises(UsageError, match="0 to 5"):
            plan([a_support()], a_case(2)[0], slices=slices)


def test_putting_back_writes_every_voxel_once() -> None:
    job = plan([a_support()], turned(a_case(2), (2, 0, 1), (1,))[0])
    images = job.view.take(job.target.array)
    masks = np.random.default_rng(0).integers(0, 2, (len(images), 2, *images.shape[1:3])).astype(np.uint8)
    segments = put_back(masks, job.support, job.view, job.target.geometry).segments
    for n in range(2):
        np.testing.assert_array_equal(job.view.take(segments[n].mask), masks[:, n])


# --- positions and volumes -----------------------------------------------------------------------------------------


def test_slices_of_support_and_target_know_how_far_up_they_lie_whatever_the_order_in_the_files() -> None:
    target = a_case(2)[0]
    straight = plan([a_support()], target)
    volume, marks = turned(a_case(1), (0, 1, 2), (0,))
    upside_down = plan([SupportCase(volume, marks)], turned(a_case(2), (0, 1, 2), (0,))[0])
    for job in (straight, upside_down):
        assert job.depths is not None and (job.depths.min(), job.depths.max()) == (-1, 1)
    by_image = {pair.image.tobytes(): pair.depth for pair in straight.support.pairs}
    assert len(set(by_image.values())) == len(by_image)
    for pair in upside_down.support.pairs:
        assert pair.depth == pytest.approx(by_image[pair.image.tobytes()])
    np.testing.assert_allclose(straight.depths, upside_down.depths[::-1])


def test_a_picture_has_no_position() -> None:
    flat = VolumeGeometry((24, 20, 1))
    volume = Volume(np.random.default_rng(0).normal(size=flat.shape_kji).astype(np.float32), flat, "picture")
    mask = np.zeros(flat.shape_kji, np.uint8)
    mask[0, 5:15, 5:15] = 1
    job = plan([SupportCase(volume, Segmentation([Segment("organ", mask)], flat))], volume)
    assert job.depths is None and job.support.pairs[0].depth is None
    asked = plan([SupportCase(volume, Segmentation([Segment("organ", mask)], flat))], volume, register=True)
    assert asked.volumes == (), "a picture is not registered, which needs no word"


def test_a_job_keeps_whole_supports_only_to_register_them() -> None:
    assert plan([a_support()], a_case(2)[0]).volumes == ()
    case = a_support()
    (kept,) = plan([case], a_case(2)[0], ["stone"], register=True).volumes
    assert kept.volume is case.volume and kept.axis == "k"
    np.testing.assert_array_equal(kept.masks, [case.segmentation.segments[1].mask])
