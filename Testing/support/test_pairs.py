"""The support: which slices and objects are taken, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ProxyPromptSegmentLib.errors import GeometryError, SupportError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet, merge_supports, support_from_volume

GRID = VolumeGeometry((6, 5, 12), (0.5, 0.75, 3.0))
TERMS = {"category": ["SCT", "1", "A"], "type": ["SCT", "2", "Prostate"]}


def a_case(**slices_of: range | list[int]) -> tuple[Volume, Segmentation]:
    """A volume and a segmentation with a 2x2 square of each object on the given slices."""
    array = np.random.default_rng(0).normal(100, 20, GRID.shape_kji).astype(np.float32)
    segments = []
    for n, (name, slices) in enumerate(slices_of.items()):
        mask = np.zeros(GRID.shape_kji, np.uint8)
        mask[list(slices), n : n + 2, 1:3] = 1
        segments.append(Segment(name, mask, (0.1 * n, 0.2, 0.3), TERMS if n == 0 else None))
    return Volume(array, GRID, "case 7"), Segmentation(segments, GRID)


def slices_in(support: SupportSet, volume: Volume) -> list[int]:
    """Which slices the pairs are, found by their voxels."""
    return [next(k for k in range(12) if np.array_equal(volume.array[k], p.image)) for p in support.pairs]


def test_the_annotated_slices_are_taken_with_masks_names_colours_and_spacing() -> None:
    volume, segmentation = a_case(Prostate=range(3, 6), bladder=range(5, 7))
    support = support_from_volume(volume, segmentation)
    assert slices_in(support, volume) == [3, 4, 5, 6]
    assert support.objects == ("Prostate", "bladder")
    assert support.colors == ((0.0, 0.2, 0.3), (0.1, 0.2, 0.3))
    assert support.terminologies == (TERMS, None)
    assert len(support) == 4
    pair = support.pairs[2]
    assert pair.masks.shape == (2, 5, 6)
    assert pair.spacing_mm == (0.75, 0.5)
    np.testing.assert_array_equal(pair.masks[1], segmentation.segments[1].mask[5])
    assert pair.source == "case 7, slice 5 (S 15.0 mm)"
    assert [pair.slice_index for pair in support.pairs] == [3, 4, 5, 6]


def test_the_window_is_that_of_the_whole_volume() -> None:
    volume, segmentation = a_case(a=[4, 5])
    volume.array[0] *= 10
    support = support_from_volume(volume, segmentation)
    low, high = np.percentile(volume.array, (0.5, 99.5))
    assert support.pairs[0].window == pytest.approx((low, high), rel=1e-6)
    assert support.pairs[0].window == support.pairs[1].window


def test_many_annotated_slices_are_thinned_evenly_without_the_outermost() -> None:
    volume, segmentation = a_case(a=range(12))
    assert slices_in(support_from_volume(volume, segmentation, max_slices=3), volume) == [2, 6, 10]
    assert slices_in(support_from_volume(volume, segmentation, max_slices=1), volume) == [6]
    assert slices_in(support_from_volume(volume, segmentation, slices="auto"), volume) == [
        0,
        2,
        3,
        5,
        6,
        8,
        9,
        11,
    ]


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 11), min_size=1), min_size=1, max_size=4), st.integers(1, 8))
def test_every_object_is_shown_however_few_its_slices(slices: list[set[int]], max_slices: int) -> None:
    volume, segmentation = a_case(**{f"o{n}": sorted(s) for n, s in enumerate(slices)})
    support = support_from_volume(volume, segmentation, max_slices=max_slices)
    shown = np.any([p.masks.any(axis=(1, 2)) for p in support.pairs], axis=0)
    assert shown.all()
    assert len(support) <= max(max_slices, len(slices))
    taken = slices_in(support, volume)
    assert taken == sorted(set(taken))


def test_slices_can_be_named_and_keep_their_order() -> None:
    volume, segmentation = a_case(a=range(2, 8))
    assert slices_in(support_from_volume(volume, segmentation, slices=[6, 2, 6]), volume) == [6, 2]


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ([12], r"\[12\] do not exist.*2-4, 7"),
        ([3, 5], r"\[5\] have no annotation.*2-4, 7"),
        ([], "no slice was given"),
        ("all", "'auto'"),
    ],
)
def test_slices_without_annotation_are_refused_with_those_that_have_one(slices: list[int] | str, words: str) -> None:
    volume, segmentation = a_case(a=[2, 3, 4, 7])
    with pytest.raises(SupportError, match=words):
        support_from_volume(volume, segmentation, slices=slices)


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_any_axis_can_be_sliced(axis: str) -> None:
    volume, segmentation = a_case(a=range(3, 6))
    support = support_from_volume(volume, segmentation, axis=axis)
    shape, spacing = {"k": ((5, 6), (0.75, 0.5)), "j": ((12, 6), (3.0, 0.5)), "i": ((12, 5), (3.0, 0.75))}[axis]
    assert support.pairs[0].image.shape == shape
    assert support.pairs[0].spacing_mm == spacing
    assert len(support) == {"k": 3, "j": 2, "i": 2}[axis]


def test_oriented_slices_of_a_volume_stored_upside_down_look_like_those_of_an_upright_one() -> None:
    volume, segmentation = a_case(a=range(3, 6))
    upside = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, (0, 3.0, 0), np.diag([1.0, -1, 1]))
    turned = Volume(volume.array[:, ::-1], upside)
    masks = Segmentation([Segment("a", segmentation.segments[0].mask[:, ::-1])], upside)
    one = support_from_volume(turned, masks, oriented=True)
    other = support_from_volume(volume, segmentation, oriented=True)
    for a, b in zip(one.pairs, other.pairs, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.masks, b.masks)


def test_colour_volumes_give_colour_pairs() -> None:
    _, segmentation = a_case(a=[1])
    colour = Volume(np.random.default_rng(0).integers(0, 255, (*GRID.shape_kji, 3)), GRID)
    assert support_from_volume(colour, segmentation).pairs[0].image.shape == (5, 6, 3)


# --- objects ------------------------------------------------------------------------------------------------


def test_objects_are_chosen_by_name_whatever_the_case_of_letters_and_in_the_order_given() -> None:
    volume, segmentation = a_case(Prostate=range(3, 6), Bladder=range(5, 9))
    support = support_from_volume(volume, segmentation, objects=["bladder", " PROSTATE"])
    assert support.objects == ("Bladder", "Prostate")
    assert support_from_volume(volume, segmentation, objects=["prostate"]).pairs[0].masks.shape[0] == 1


def test_a_label_is_found_by_its_number() -> None:
    volume, segmentation = a_case(**{"label 1": range(3), "label 2": range(4)})
    assert support_from_volume(volume, segmentation, objects=["2"]).objects == ("label 2",)


def test_an_unknown_object_is_refused_with_those_that_there_are() -> None:
    volume, segmentation = a_case(Prostate=[3], bladder=[4])
    with pytest.raises(SupportError, match="no object named 'rectum'; it has 'Prostate', 'bladder'"):
        support_from_volume(volume, segmentation, objects=["rectum"])


def test_repeated_and_ambiguous_names_are_refused() -> None:
    volume, segmentation = a_case(a=[3], b=[4])
    segmentation.segments[1].name = "a"
    with pytest.raises(SupportError, match="2 objects named 'A'"):
        support_from_volume(volume, segmentation, objects=["A"])
    volume, segmentation = a_case(a=[3])
    with pytest.raises(SupportError, match="is given twice"):
        support_from_volume(volume, segmentation, objects=["a", "A"])


def test_names_that_differ_only_by_capitals_are_told_apart_or_refused_with_both() -> None:
    volume, segmentation = a_case(Prostate=[3], prostate=[4])
    for number, name in enumerate(("Prostate", "prostate")):
        found = support_from_volume(volume, segmentation, objects=[name])
        assert found.objects == (name,) and {pair.slice_index for pair in found.pairs} == {3 + number}
    for objects in (["PROSTATE"], ["Prostate", "prostate"], None):
        with pytest.raises(
            SupportError, match="'Prostate', 'prostate' differ only by capitals.*rename them, or choose"
        ):
            support_from_volume(volume, segmentation, objects=objects)


# --- what cannot be a support -------------------------------------------------------------------------------


def test_an_empty_support_mask_asks_for_another() -> None:
    volume, segmentation = a_case(a=[], b=[])
    with pytest.raises(SupportError, match=r"every mask of the support is empty.*choose another"):
        support_from_volume(volume, segmentation)
    with pytest.raises(SupportError, match="mask of 'a' is empty; choose another"):
        support_from_volume(volume, segmentation, objects=["a"])


def test_empty_segments_are_left_out_when_no_object_is_named() -> None:
    volume, segmentation = a_case(a=[2], b=[])
    assert support_from_volume(volume, segmentation).objects == ("a",)


def test_masks_of_another_size_are_refused_with_both_sizes() -> None:
    volume, _ = a_case(a=[2])
    other = VolumeGeometry((6, 5, 11), (0.5, 0.75, 3.0))
    with pytest.raises(SupportError, match=r"\(12, 5, 6\).*\(11, 5, 6\).*Export the segmentation"):
        support_from_volume(volume, Segmentation([Segment("a", np.ones(other.shape_kji))], other))


def test_masks_elsewhere_in_space_are_refused() -> None:
    volume, segmentation = a_case(a=[2])
    elsewhere = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, (30, 0, 0))
    with pytest.raises(GeometryError, match="another grid"):
        support_from_volume(volume, Segmentation(segmentation.segments, elsewhere))


def a_pair() -> SupportPair:
    return SupportPair(np.ones((5, 6)), np.ones((2, 5, 6), np.uint8), (1, 1), (0, 1), "case")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"masks": np.ones((1, 5, 5))}, r"image has shape \(5, 6\), masks \(1, 5, 5\)"),
        ({"masks": np.ones((5, 6))}, "both must share"),
        ({"image": np.ones((5, 6, 4))}, "both must share"),
        ({"masks": np.zeros((1, 5, 6))}, "every mask is empty"),
        ({"masks": np.full((1, 5, 6), 2)}, "values up to 2"),
        ({"masks": np.full((1, 5, 6), 0.5)}, "values up to 0.5"),
        ({"image": np.full((5, 6), np.nan)}, "NaN"),
        ({"window": (3.0, 3.0)}, "window"),
        ({"window": (0.0, float("inf"))}, "window"),
        ({"spacing_mm": (0.0, 1.0)}, "pixel size"),
        ({"slice_index": -1}, "number -1; slices are counted from 0"),
    ],
)
def test_a_pair_is_valid_once_constructed(change: dict, words: str) -> None:
    assert a_pair().image.dtype == np.float32
    assert a_pair().masks.dtype == np.uint8
    assert a_pair().slice_index is None
    with pytest.raises(SupportError, match=words):
        replace(a_pair(), **change)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((), ("a", "b")), "0 pairs"),
        (((a_pair(),), ()), "0 objects"),
        (((a_pair(),), ("a",)), "counts must agree"),
        (((a_pair(),), ("a", "a")), "share a name"),
        (((a_pair(),), ("a", "A")), "differ only by capitals"),
        (((a_pair(),), ("a", "b"), ((1, 0, 0),)), "1 colours"),
        (
            ((replace(a_pair(), masks=np.stack([np.ones((5, 6)), np.zeros((5, 6))])),), ("a", "b")),
            "no slice.*shows 'b'",
        ),
    ],
)
def test_a_set_is_valid_once_constructed(arguments: tuple, words: str) -> None:
    support = SupportSet((a_pair(),), ("a", "b"))
    assert len(set(support.colors)) == 2
    assert support.terminologies == (None, None)
    with pytest.raises(SupportError, match=words):
        SupportSet(*arguments)


def test_supports_of_several_cases_are_joined_in_the_order_of_the_first() -> None:
    first = support_from_volume(*a_case(prostate=[2, 3], bladder=[3]))
    second = support_from_volume(*a_case(Bladder=[7], Prostate=[8]))
    joined = merge_supports([first, second])
    assert joined.objects == ("prostate", "bladder")
    assert len(joined) == 4
    np.testing.assert_array_equal(joined.pairs[2].masks[[1, 0]], second.pairs[0].masks)
    assert joined.pairs[2].masks[1].any()
    assert [pair.slice_index for pair in joined.pairs] == [2, 3, 7, 8]
    assert [pair.source for pair in joined.pairs] == [pair.source for pair in (*first.pairs, *second.pairs)]


def test_supports_of_different_objects_are_not_joined() -> None:
    first, second = support_from_volume(*a_case(a=[2])), support_from_volume(*a_case(b=[2]))
    with pytest.raises(SupportError, match="'a' and 'b'"):
        merge_supports([first, second])
    with pytest.raises(SupportError, match="no support"):
        merge_supports([])


def test_an_object_can_be_made_of_several_segments():
    from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
    from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
    from ProxyPromptSegmentLib.support.selecting import select_segments

    left, right = np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)
    left[0, :, 0], right[0, :, 3] = 1, 1
    both = Segmentation(
        [Segment("label 1", left, (1, 0, 0), {"type": "part"}), Segment("label 2", right, (0, 1, 0))],
        VolumeGeometry((4, 4, 1)),
    )
    (gland,) = select_segments(both, ["gland=1+label 2"])
    assert gland.name == "gland" and gland.terminology is None
    assert (gland.mask == (left | right)).all()
    with pytest.raises(SupportError, match="no object named '3'"):
        select_segments(both, ["gland=1+3"])
    with pytest.raises(SupportError, match="NEWNAME=SEGMENT"):
        select_segments(both, ["gland=1+"])


def test_an_unknown_name_in_a_label_map_says_how_its_values_are_named():
    from ProxyPromptSegmentLib.support.selecting import select_segments

    grid = VolumeGeometry((4, 4, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    mask = np.ones((1, 4, 4), np.uint8)
    numbers = Segmentation([Segment(f"label {n}", mask, metadata={"label_value": n}) for n in (2, 3)], grid)
    with pytest.raises(SupportError, match="A label map holds no names: write 'prostate=2' for the voxels of value 2"):
        select_segments(numbers, ["prostate"])
    assert [one.name for one in select_segments(numbers, ["prostate=2"])] == ["prostate"]
    named = Segmentation([Segment("gland", mask, metadata={"label_value": 1})], grid)
    with pytest.raises(SupportError, match="it has 'gland'. Choose one of these"):
        select_segments(named, ["prostate"])
