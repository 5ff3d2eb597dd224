"""What the check of a support says: each thing that is wrong, and silence where nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawn_data import as_support, heart, prostate
from ProxyPromptSegmentLib.data.cases import DATASETS
from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.review.check import LeaveOneOut, check_case, leave_one_out, trial_findings
from ProxyPromptSegmentLib.review.findings import Finding, by_level
from ProxyPromptSegmentLib.review.flip import probable_flip
from ProxyPromptSegmentLib.support.case import SupportCase, read_support_case
from ProxyPromptSegmentLib.support.pairs import support_from_volume

GRID = VolumeGeometry((64, 64, 7), (1, 1, 4))


def a_case(place: tuple[int, int] = (36, 22), rim: float = 11.0) -> SupportCase:
    """A bright ball off the centre of noise, exactly marked on its five slices."""
    k, j, i = np.mgrid[:7, :64, :64]
    ball = (((k - 3) * 4.0) ** 2 + (j - place[0]) ** 2 + (i - place[1]) ** 2) < rim**2
    noise = np.random.default_rng(0).normal(100, 10, GRID.shape_kji)
    volume = Volume((noise + 80 * ball).astype(np.float32), GRID, "ball")
    return SupportCase(volume, Segmentation([Segment("organ", ball.astype(np.uint8))], GRID))


def texts(findings: list[Finding]) -> str:
    return "\n".join(f"{f.level}: {f.text}" for f in findings)


def changed(case: SupportCase, change) -> SupportCase:
    """The case after a change of its mask."""
    change(case.segmentation.segments[0].mask)
    return case


# --- nothing wrong -------------------------------------------------------------------------------------------------


def test_a_good_support_is_not_talked_about() -> None:
    assert check_case(a_case()) == []


def test_a_support_from_files_has_no_errors_and_no_false_flip(drawn_prostates: Path) -> None:
    folder = drawn_prostates / "p158_001"
    case = read_support_case(folder / "t2.nii.gz", folder / "t2_anatomy_reader1.nii.gz")
    findings = check_case(case, target=a_case().volume)
    assert all(f.level != "error" for f in findings) and "flipped" not in texts(findings)
    assert any("mm" in f.text for f in findings), "the small target differs in its field of view"


# --- the image and the grid ----------------------------------------------------------------------------------------


def test_a_constant_image_and_one_with_nan_are_errors() -> None:
    case = a_case()
    for value in (7.0, np.nan):
        volume = Volume(np.full(GRID.shape_kji, value, np.float32), GRID)
        findings = check_case(SupportCase(volume, case.segmentation))
        assert len([f for f in findings if f.level == "error"]) == 1


def test_masks_of_another_size_or_place_are_errors() -> None:
    case = a_case()
    small = VolumeGeometry((32, 32, 7))
    mask = np.ones(small.shape_kji, np.uint8)
    (size,) = check_case(SupportCase(case.volume, Segmentation([Segment("organ", mask)], small)))
    assert size.level == "error" and "64x64x7 voxels, its masks 32x32x7" in size.text
    moved = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, (5, 0, 0))
    (place,) = check_case(SupportCase(case.volume, Segmentation(case.segmentation.segments, moved)))
    assert place.level == "error" and "lie on another grid" in place.text


def test_empty_masks_are_told_all_as_an_error_one_as_a_warning() -> None:
    case = a_case()
    case.segmentation.segments.append(Segment("other", np.zeros(GRID.shape_kji, np.uint8)))
    (finding,) = check_case(case)
    assert (finding.level, finding.object) == ("warning", "other") and "left out" in finding.text
    (all_empty,) = check_case(changed(a_case(), lambda m: m.fill(0)))
    assert all_empty.level == "error" and "Every mask of the support is empty" in all_empty.text
    assert check_case(SupportCase(case.volume, Segmentation([], GRID)))[0].level == "error"


def test_chosen_slices_that_are_not_marked_are_an_error() -> None:
    (finding,) = check_case(replace(a_case(), slices=(0, 3, 9)))
    assert finding.level == "error" and finding.slices == (0, 9)
    assert "slices 0 (S 0.0 mm), 9 (S 36.0 mm); choose among slices 1-5 (S 4.0 to 20.0 mm)." in finding.text


def test_a_marked_slice_that_shows_nothing_and_an_extreme_voxel_are_told() -> None:
    case = a_case()
    case.volume.array[3] = 100
    findings = check_case(case)
    assert any(f.slices == (3,) and "almost no contrast on slice 3" in f.text for f in findings)
    case = a_case()
    case.volume.array[0, 0, 0] = 1e6
    assert "far brighter or darker" in texts(check_case(case))


# --- flips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flips"), [("left-right", (2,)), ("up-down", (1,)), ("left-right and up-down", (1, 2))]
)
def test_a_flipped_mask_is_told(name, flips) -> None:
    case = changed(a_case(), lambda m: m.__setitem__(slice(None), np.flip(m.copy(), flips)))
    findings = [f for f in check_case(case) if "flipped" in f.text]
    assert len(findings) == 1 and findings[0].level == "warning" and f"flipped {name}:" in findings[0].text


def test_left_and_right_are_those_of_the_picture_that_is_looked_at() -> None:
    """Stored transposed, a flip along rows is one of left and right."""
    turn = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    grid = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, direction=turn)
    case = a_case()
    mask = np.flip(case.segmentation.segments[0].mask, 1).copy()
    volume = Volume(case.volume.array, grid)
    assert probable_flip(volume, Segmentation([Segment("organ", mask)], grid), "k") == "left-right"


def real(root: Path, name: str, item: str, every: int = 1, flips: tuple[int, ...] = ()) -> SupportCase:
    """An item of a public set as a support, every n-th slice of it; its masks perhaps flipped."""
    layout = DATASETS[name]
    images, masks, _ = layout.read(root / name, item, layout)
    images, masks = images[::every], masks[::every]
    k, j, i = images.shape[:3]
    grid = VolumeGeometry((i, j, k))
    segments = [Segment(o, np.flip(masks[:, n], flips).copy()) for n, (o, _) in enumerate(layout.objects)]
    return SupportCase(Volume(images, grid, item), Segmentation(segments, grid))


@pytest.mark.parametrize("seed", range(3))
def test_flips_of_several_objects_are_found_and_the_case_itself_passes(seed) -> None:
    images, labels = heart(seed)
    for flips, told in {(): "", (1,): "up-down", (2,): "left-right", (1, 2): "left-right and up-down"}.items():
        support = as_support((images, np.flip(labels, flips)), "heart", ("right", "wall", "left"))
        assert probable_flip(support.volume, support.segmentation, "k") == told


@pytest.mark.parametrize(
    ("name", "item"), [("acdc", "patient004_frame15"), ("acdc", "patient012_frame01"), ("acdc", "patient016_frame12")]
)
def test_flips_of_real_cases_are_found_and_the_cases_themselves_pass(name, item, shared_data) -> None:
    for flips, told in {(): "", (1,): "up-down", (2,): "left-right", (1, 2): "left-right and up-down"}.items():
        support = real(shared_data, name, item, every=3, flips=flips)
        assert probable_flip(support.volume, support.segmentation, "k") == told


@pytest.mark.parametrize(
    ("item", "found"), [("drishtiGS_002", False), ("drishtiGS_101", False), ("drishtiGS_026", True)]
)
def test_an_optic_cup_alone_is_not_called_flipped_though_its_edge_is_faint(item, found, shared_data) -> None:
    """Its mirror image may lie on a vessel, whose edge is steeper."""
    flips: dict[tuple[int, ...], str] = {(): ""}
    if found:
        flips |= {(1,): "up-down", (2,): "left-right", (1, 2): "left-right and up-down"}
    for axes, told in flips.items():
        case = real(shared_data, "drishti_gs", item, flips=axes)
        cup = Segmentation(case.segmentation.segments[1:], case.segmentation.geometry)
        assert cup.segments[0].name == "optic cup" and probable_flip(case.volume, cup, "k") == told


# --- shapes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "level", "slices", "words"),
    [
        (lambda m: m.__setitem__((3, slice(2, 10), slice(50, 60)), 1), "info", (3,), "several components on slice 3"),
        (lambda m: m.__setitem__((3, 2, 50), 1), "warning", (3,), "isolated specks on slice 3"),
        (lambda m: m.__setitem__((3, 36, 22), 0), "warning", (3,), "small holes on slice 3"),
        (lambda m: m.__setitem__((3, slice(32, 38), slice(20, 26)), 0), "info", (3,), "a hole on slice 3"),
        (lambda m: m.__setitem__((3, slice(30, 40), slice(0, 22)), 1), "info", (3,), "touches the image's border on s"),
        (lambda m: m.__setitem__(3, 0), "warning", (3,), "not annotated on slice 3 (S 12.0 mm), but before and"),
        (
            lambda m: m.__setitem__((slice(2, 5),), 0),
            "info",
            (2, 3, 4),
            "not annotated on slices 2-4 (S 8.0 to 16.0 mm), but",
        ),
        (lambda m: m.__setitem__(([1, 2, 4, 5],), 0), "info", (3,), "annotated only on slice 3"),
    ],
)
def test_what_is_unusual_about_a_mask_is_told_with_its_slices(change, level, slices, words) -> None:
    findings = [f for f in check_case(changed(a_case(), change)) if words in f.text]
    assert [(f.level, f.slices, f.object) for f in findings] == [(level, slices, "organ")]


def test_pieces_that_do_not_touch_in_space_are_told() -> None:
    case = changed(a_case(), lambda m: (m.fill(0), m.__setitem__((1, slice(5, 20), slice(5, 20)), 1)))
    changed(case, lambda m: m.__setitem__((2, slice(40, 60), slice(40, 60)), 1))
    assert "2 separate components" in texts(check_case(case))


def test_a_hole_that_another_object_fills_is_none() -> None:
    case = changed(a_case(), lambda m: m.__setitem__((3, slice(32, 38), slice(20, 26)), 0))
    inner = np.zeros(GRID.shape_kji, np.uint8)
    inner[3, 32:38, 20:26] = 1
    case.segmentation.segments.append(Segment("inner", inner))
    assert "hole" not in texts([f for f in check_case(case) if f.object == "organ"])


def test_a_tiny_object_is_told() -> None:
    grid = VolumeGeometry((512, 512, 1))
    mask = np.zeros(grid.shape_kji, np.uint8)
    mask[0, 100:106, 100:106] = 1
    volume = Volume(np.random.default_rng(0).normal(size=grid.shape_kji).astype(np.float32), grid)
    findings = check_case(SupportCase(volume, Segmentation([Segment("speck", mask)], grid)))
    assert "'speck' is tiny: about 6 pixels across" in texts(findings)


# --- beside others and the target ----------------------------------------------------------------------------------


def test_a_second_copy_is_told_and_one_with_other_masks_as_well() -> None:
    case = a_case()
    (twice,) = check_case(case, [case, a_case()])
    assert twice.level == "warning" and "already a support ('ball')" in twice.text
    (other,) = check_case(case, [changed(a_case(), lambda m: m.__setitem__(5, 0))])
    assert other.level == "info" and "with other masks" in other.text
    assert check_case(case, [a_case((30, 30))]) == []


def test_what_differs_from_the_target_is_told() -> None:
    case = a_case()
    assert "the support itself" in texts(check_case(case, target=a_case().volume))
    coronal = VolumeGeometry((64, 64, 7), (1, 1, 4), direction=np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))
    noise = np.random.default_rng(1).normal(size=GRID.shape_kji).astype(np.float32)
    assert "axial, those of the target" in texts(check_case(case, target=Volume(noise, coronal, "t")))
    wide = VolumeGeometry(GRID.size_ijk, (4, 4, 4))
    assert "factor of 2" in texts(check_case(case, target=Volume(noise, wide, "t")))
    (finding,) = check_case(case, modality="CT", target_modality="MR T2")
    assert "The support is CT, the target MR T2" in finding.text
    assert check_case(case, modality="mr t2 ", target_modality="MR T2") == check_case(case, modality="CT") == []


def test_errors_come_first() -> None:
    found = [Finding("info", "a"), Finding("error", "b"), Finding("warning", "c"), Finding("error", "d")]
    assert [f.text for f in by_level(found)] == ["b", "d", "c", "a"]


def test_a_finding_names_its_slices_by_index_and_position() -> None:
    case = changed(a_case(), lambda m: m.__setitem__(([1, 2, 4, 5],), 0))
    (finding,) = [f for f in check_case(case) if "annotated only on" in f.text]
    assert f"slice 3 (S {3 * GRID.spacing_mm[2]:.1f} mm)" in finding.text


# --- leave one out -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segmenter():
    """The compact model that comes with the program."""
    pytest.importorskip("torch")
    from ProxyPromptSegmentLib.inference.loading import load
    from remembered import remember_embeddings

    segmenter = load("sam-compact", "cpu").segmenter
    remember_embeddings(segmenter.model, "sam-compact")
    return segmenter


@pytest.fixture(scope="module")
def pelves() -> list[SupportCase]:
    """Three volumes of the prostate with few slices."""
    return [as_support(prostate(seed), f"pelvis {seed}", ("prostate",)) for seed in (11, 12, 13)]


def with_masks(case: SupportCase, **masks: np.ndarray) -> SupportCase:
    segments = [Segment(name, mask.astype(np.uint8)) for name, mask in masks.items()]
    return replace(case, segmentation=Segmentation(segments, case.segmentation.geometry))


def mask_of(case: SupportCase) -> np.ndarray:
    return case.segmentation.segments[0].mask


@pytest.mark.slow  # the next two, one of them with a fault, run each time
def test_each_support_is_segmented_with_the_others(segmenter, pelves) -> None:
    answers = leave_one_out(segmenter, pelves)
    assert [(a.case, a.object) for a in answers] == [(n, "prostate") for n in range(3)]
    assert min(a.dice for a in answers) > 0.6 and trial_findings(answers) == []
    for answer in answers:
        assert answer.slices == tuple(np.flatnonzero(mask_of(pelves[answer.case]).any(axis=(1, 2))))


def test_a_support_that_is_marked_wrongly_stands_out(segmenter, pelves) -> None:
    wrong = with_masks(pelves[2], prostate=np.roll(mask_of(pelves[2]), 40, axis=1))
    answers = leave_one_out(segmenter, [*pelves[:2], wrong])
    findings = trial_findings(answers, ["A", "B", "C"])
    assert len(findings) == 1 and findings[0].level == "warning" and findings[0].object == "prostate"
    assert "'C' cannot be reproduced" in findings[0].text


def test_the_slices_of_one_case_are_checked_against_each_other(segmenter, pelves) -> None:
    answers = leave_one_out(segmenter, pelves[:1])
    marked = np.flatnonzero(mask_of(pelves[0]).any(axis=(1, 2)))
    assert [a.slices for a in answers] == [(n,) for n in marked] and all(a.case == 0 for a in answers)
    assert max(a.dice for a in answers) > 0.7


def test_a_slice_prompts_all_but_itself(segmenter, pelves, monkeypatch) -> None:
    """Otherwise every Dice would be flattering."""
    prompts, segment = [], segmenter.segment

    def watching(images, support, *others, **more):
        prompts.append(support.features)
        return segment(images, support, *others, **more)

    monkeypatch.setattr(segmenter, "segment", watching)
    answers = leave_one_out(segmenter, pelves[:1])
    numbers = [a.slices[0] for a in answers]
    whole = segmenter.prepare(support_from_volume(pelves[0].volume, pelves[0].segmentation, slices=numbers)).features
    for n, features in enumerate(prompts):
        expected = whole[[other for other in range(len(numbers)) if other != n]]
        np.testing.assert_allclose(features.numpy(), expected.numpy(), atol=1e-4)


def test_progress_is_told_and_cancelling_keeps_what_is_done(segmenter, pelves) -> None:
    class Stopping(Progress):
        steps, total = 0, 0

        def start(self, total: int, what: str) -> None:
            self.total = total

        def step(self, n: int = 1, note: str = "") -> None:
            self.steps += n
            cancel.cancel()

    for cases in (pelves[:3], pelves[:1]):
        cancel, progress = CancelToken(), Stopping()
        answers = leave_one_out(segmenter, cases, ["prostate"], progress, cancel)
        assert len(answers) == 1 == progress.steps and progress.total >= 3


def test_nothing_to_compare_is_said(segmenter, pelves) -> None:
    with pytest.raises(SupportError, match="no support to check"):
        leave_one_out(segmenter, [])
    with pytest.raises(SupportError, match="a single slice"):
        leave_one_out(segmenter, [replace(pelves[0], slices=[4])])
    with pytest.raises(SupportError, match="no annotated object in common"):
        leave_one_out(segmenter, [pelves[0], a_case()])


def test_an_object_that_no_other_support_has_is_left_out(segmenter, pelves) -> None:
    more = with_masks(pelves[0], prostate=mask_of(pelves[0]), other=mask_of(pelves[0]))
    answers = leave_one_out(segmenter, [more, pelves[1]], ["prostate", "other"])
    assert [(a.case, a.object) for a in answers] == [(0, "prostate"), (1, "prostate")]


def test_low_and_outlying_answers_are_told() -> None:
    def rows(*values: float) -> list[LeaveOneOut]:
        return [LeaveOneOut(n, "x", value, (n,)) for n, value in enumerate(values)]

    assert trial_findings(rows(0.8, 0.85, 0.7)) == []
    (low,) = trial_findings(rows(0.9, 0.6, 0.92))
    assert "'support 2'" in low.text and "Dice 0.60" in low.text and "the others 0.91" in low.text
    assert "'support 1'" in texts(trial_findings(rows(0.2, 0.9))) and len(trial_findings(rows(0.2, 0.9))) == 1
    (none,) = trial_findings(rows(0.2, 0.3))
    assert "do not reproduce each other: Dice of 'x' is at most 0.30" in none.text and not none.slices
    (one,) = trial_findings([LeaveOneOut(0, "x", 0.9, (3,)), LeaveOneOut(0, "x", 0.1, (5,))])
    assert one.text.startswith("Slice 5 cannot be reproduced") and one.slices == (5,)


@pytest.mark.parametrize("seeds", [((1, 1), (3,)), ((1, 2, 3),)])
def test_thin_supports_are_checked_in_tiles_as_they_prompt(seeds) -> None:
    """In whole slices the vessels would be lost, and a good support would be criticised."""
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from tile_cases import PerfectModel, vessel_case

    cases = [SupportCase(*vessel_case(some)) for some in seeds]
    answers = leave_one_out(Segmenter(PerfectModel(), "cpu"), cases)
    assert len(answers) == (len(cases) if len(cases) > 1 else len(seeds[0]))
    assert min(answer.dice for answer in answers) >= 0.85
    assert trial_findings(answers) == []
