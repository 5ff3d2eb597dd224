"""Suggested supports: the same kind first, a warning when there is none, and little work the second time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from drawn_data import as_support, fundus, prostate, ultrasound
from engine_doubles import tiny_model
from ProxyPromptSegmentLib.data.cases import DATASETS
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.review import likeness
from ProxyPromptSegmentLib.review.suggest import RESEMBLES, Suggestion, rank, warning
from ProxyPromptSegmentLib.support.case import SupportCase
from remembered import remember_embeddings


@pytest.fixture(scope="module")
def segmenter():
    """The compact model that comes with the program."""
    segmenter = load("sam-compact", "cpu").segmenter
    remember_embeddings(segmenter.model, "sam-compact")
    return segmenter


def real(root: Path, name: str, item: str) -> SupportCase:
    """An item of a public set, every fourth slice of a volume."""
    layout = DATASETS[name]
    images, masks, _ = layout.read(root / name, item, layout)
    labels = (masks * np.arange(1, masks.shape[1] + 1)[:, None, None]).max(axis=1).astype(np.uint8)
    return as_support((images[::4], labels[::4]), name, tuple(one for one, _ in layout.objects))


@pytest.fixture(scope="module")
def cases() -> dict[str, SupportCase]:
    """Two drawings each of three kinds, which are called by the kind and a number."""
    made = {}
    for n in range(2):
        eye, _, vessels = fundus(n)
        made[f"prostate {n}"] = as_support(prostate(n), f"prostate {n}", ("prostate",))
        made[f"ultrasound {n}"] = as_support(ultrasound(n), f"ultrasound {n}", ("symphysis", "head"))
        made[f"fundus {n}"] = as_support((eye, vessels), f"fundus {n}", ("vessel",))
    return made


@pytest.fixture
def library(tmp_path, cases) -> SupportLibrary:
    made = SupportLibrary(tmp_path / "library")
    for title, case in cases.items():
        if title.endswith("0"):
            made.save(case.volume, case.segmentation, title, modality=title.split()[0], thumbnail=False)
    return made


def titles(found: list[Suggestion]) -> list[str]:
    return [s.entry.title if hasattr(s.entry, "title") else s.entry.volume.name for s in found]


@pytest.mark.parametrize("kind", ["prostate", "ultrasound", "fundus"])
def test_the_support_of_the_same_kind_comes_first(library, cases, segmenter, kind) -> None:
    found = rank(library, cases[f"{kind} 1"].volume, segmenter)
    assert len(found) == 3 and titles(found)[0] == f"{kind} 0"
    assert found[0].likeness >= RESEMBLES > found[1].likeness >= found[2].likeness >= 0
    assert warning(found) == "" and f"({found[0].likeness:.2f} of 1)" in found[0].reason
    assert found[2].reason.startswith("Does not resemble the target")


@pytest.mark.parametrize(("kind", "item"), [("promise12", "case04"), ("psfhs", "03844"), ("drive", "drive_04")])
def test_of_public_images_the_support_of_the_same_kind_comes_first(shared_data, segmenter, kind, item) -> None:
    supports = [real(shared_data, *one) for one in (("promise12", "case00"), ("psfhs", "03744"), ("drive", "drive_02"))]
    found = rank(supports, real(shared_data, kind, item).volume, segmenter)
    assert found[0].entry.volume.name == kind
    assert found[0].likeness >= RESEMBLES > found[1].likeness


def test_cases_are_ranked_as_the_library_is(library, cases, segmenter) -> None:
    target = cases["prostate 1"].volume
    given = [case for title, case in cases.items() if title.endswith("0")]
    found = rank(given, target, segmenter)
    assert {id(s.entry) for s in found} == {id(case) for case in given}
    again = rank(library, target, segmenter)
    assert [s.likeness for s in found] == pytest.approx([s.likeness for s in again], abs=1e-4)


def test_a_warning_says_that_nothing_resembles(library, cases, segmenter) -> None:
    others = [entry for entry in library.entries() if not entry.title.startswith("prostate")]
    found = rank(library, cases["prostate 1"].volume, segmenter, others)
    assert sorted(titles(found)) == ["fundus 0", "ultrasound 0"]
    assert warning(found).startswith("No support in the library resembles this image; the most similar reaches 0.")
    assert "has no support to compare" in warning([])


def test_the_second_time_only_the_target_is_encoded(library, cases, segmenter, encode_calls) -> None:
    target = cases["prostate 1"].volume
    first = rank(library, target, segmenter)
    assert sum(encode_calls) == 4 + (4 + 1 + 1) + (4 + 4), "target, three cases, and the encoder's scale"
    encode_calls.clear()
    again = rank(library, target, segmenter)
    assert sum(encode_calls) == 4
    assert [(s.entry.id, s.likeness) for s in again] == [(s.entry.id, pytest.approx(s.likeness)) for s in first]


def test_what_another_model_saw_is_not_used(library, cases) -> None:
    """Both models are small ones with random weights, so that only the weights differ."""
    target, ranked = cases["prostate 1"].volume, []
    for seed in (0, 1):
        found = rank(library, target, Segmenter(tiny_model(seed), "cpu"))
        ranked.append([s.likeness for s in found])
        assert ranked[-1] == pytest.approx(
            [
                s.likeness
                for s in rank([library.load(s.entry) for s in found], target, Segmenter(tiny_model(seed), "cpu"))
            ]
        ), "as without anything that was kept"
    assert ranked[0] != pytest.approx(ranked[1])
    assert len(list(library.folder.glob("*/embedding-*.npz"))) == 6
    assert len(list(library.folder.glob(".scale-*.npz"))) == 2


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_a_damaged_memory_is_made_anew(library, cases, segmenter, content) -> None:
    target = cases["prostate 1"].volume
    first = rank(library, target, segmenter)
    for path in [*library.folder.glob("*/embedding-*.npz"), *library.folder.glob(".scale-*.npz")]:
        path.write_bytes(content)
    assert [s.likeness for s in rank(library, target, segmenter)] == pytest.approx([s.likeness for s in first])


def test_the_memory_of_other_masks_is_not_used(library, cases, segmenter) -> None:
    target = cases["prostate 1"].volume
    first = {s.entry.title: s.likeness for s in rank(library, target, segmenter)}
    a, b = (e for e in library.entries() if e.title in ("ultrasound 0", "prostate 0"))
    (path,), (other,) = a.folder.glob("embedding-*"), b.folder.glob("embedding-*")
    path.write_bytes(other.read_bytes())
    assert {s.entry.title: s.likeness for s in rank(library, target, segmenter)} == pytest.approx(first)


def test_a_library_that_cannot_be_written_is_ranked_all_the_same(library, cases, segmenter) -> None:
    target = cases["prostate 1"].volume
    first = rank(library, target, segmenter)
    for path in list(library.folder.glob("*/embedding-*.npz")):
        path.unlink()
        path.mkdir()
        (path / "in the way").write_text("")
    assert [s.likeness for s in rank(library, target, segmenter)] == pytest.approx([s.likeness for s in first])


def test_damaged_cases_are_left_out_and_cancelling_keeps_what_is_done(library, cases, segmenter) -> None:
    class Stopping(Progress):
        total, steps = 0, 0

        def start(self, total: int, what: str) -> None:
            self.total = total

        def step(self, n: int = 1, note: str = "") -> None:
            self.steps += n
            if self.steps == 2:
                cancel.cancel()

    cancel, progress = CancelToken(), Stopping()
    found = rank(library, cases["ultrasound 1"].volume, segmenter, progress=progress, cancel=cancel)
    assert len(found) == 2 and (progress.total, progress.steps) == (3, 2)
    entries = {e.title: e for e in library.entries()}
    (entries["ultrasound 0"].folder / "case.json").write_text("{")
    (entries["fundus 0"].folder / "image.nrrd").write_bytes(b"NRRD0004\n")
    for path in entries["fundus 0"].folder.glob("embedding*"):
        path.unlink()
    assert titles(rank(library, cases["ultrasound 1"].volume, segmenter)) == ["prostate 0"]


def test_what_is_known_without_looking_counts_and_is_told(cases, segmenter, tmp_path) -> None:
    library, case = SupportLibrary(tmp_path), cases["prostate 0"]
    library.save(case.volume, case.segmentation, modality="MR T2", thumbnail=False)
    target = cases["prostate 1"].volume

    def likeness_and_reason(volume: Volume, modality: str = "") -> tuple[float, str]:
        (one,) = rank(library, volume, segmenter, modality=modality)
        return one.likeness, one.reason

    plain, reason = likeness_and_reason(target)
    assert "also axial" in reason
    same, told = likeness_and_reason(target, "mr t2")
    assert same == pytest.approx(plain, abs=1e-5) and told == reason.replace("; also a", "; also MR T2; also a")
    other, reason = likeness_and_reason(target, "CT")
    assert other < plain and "MR T2, not CT" in reason
    wide = Volume(target.array, replace(target.geometry, spacing_mm=(3, 3, 12)))
    assert likeness_and_reason(wide)[0] < plain and "128 mm across, the target 384 mm" in likeness_and_reason(wide)[1]
    colour = Volume(np.repeat(target.array[..., None], 3, axis=-1), target.geometry)
    assert likeness_and_reason(colour)[0] < plain and "grey, the target is in colour" in likeness_and_reason(colour)[1]
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    coronal = Volume(target.array, VolumeGeometry(target.geometry.size_ijk, (1, 1, 4), direction=upright))
    assert likeness_and_reason(coronal)[0] < plain and "axial, not coronal" in likeness_and_reason(coronal)[1]


def test_nearly_cubic_targets_are_looked_at_in_the_supports_plane(cases, segmenter, tmp_path) -> None:
    """Stored as sagittal slices with cubic voxels, the target has axial slices as well."""
    library, case = SupportLibrary(tmp_path), cases["prostate 0"]
    library.save(case.volume, case.segmentation, thumbnail=False)
    target = cases["prostate 1"].volume
    array = np.repeat(target.array, 4, axis=0)
    cubic = Volume(array, VolumeGeometry((128, 128, 32)))
    (straight,) = rank(library, cubic, segmenter)
    turned = np.ascontiguousarray(array.transpose(2, 0, 1))  # slices along the former columns
    direction = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    stored = Volume(turned, VolumeGeometry((128, 32, 128), direction=direction))
    (found,) = rank(library, stored, segmenter)
    assert "also axial" in found.reason and found.likeness == pytest.approx(straight.likeness, abs=1e-5)


# --- the measure ---------------------------------------------------------------------------------------------------


def test_the_distance_is_none_to_itself_and_does_not_depend_on_scale_or_order() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(60, 8)).astype(np.float32), (rng.normal(size=(50, 8)) + 1).astype(np.float32)
    assert likeness.distance(one, one[::-1]) == pytest.approx(0, abs=1e-3)
    apart = likeness.distance(one, other)
    scale = rng.uniform(0.01, 100, 8).astype(np.float32)
    assert likeness.distance(other, one) == pytest.approx(apart)
    assert likeness.distance(one * scale, other * scale) == pytest.approx(apart, rel=1e-3)
    assert likeness.distance(one, other + 3) > apart


def test_padding_is_not_looked_at(segmenter) -> None:
    image = np.random.default_rng(0).normal(size=(1, 32, 64)).astype(np.float32)
    assert len(likeness.cells(segmenter.encode(image))) == likeness.CELLS**2 / 2


def test_likeness_falls_with_the_distance_and_with_what_speaks_against_it() -> None:
    values = [likeness.likeness_of(apart, 5.0) for apart in (0.0, 1.0, 2.9, 3.0, 10.0, 1e9)]
    assert values == sorted(values, reverse=True) and values[0] > 0.99 and values[-1] < 0.01
    assert likeness.likeness_of(2.0, 5.0, 1.0) < likeness.likeness_of(2.0, 5.0)


def test_slices_are_spread_evenly() -> None:
    assert likeness.spread(40) == [5, 15, 25, 35] and likeness.spread(3) == [0, 1, 2] and likeness.spread(1) == [0]
