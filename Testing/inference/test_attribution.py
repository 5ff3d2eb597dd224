"""The why view: what it points at is what was read, and it points at the right place of the right volume."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from command_cases import turned
from engine_doubles import EVERYTHING, EchoBackbone, EchoModel, tiny_config, tiny_model
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, slice_view, take_slices
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.attribution import explain
from ProxyPromptSegmentLib.inference.feature_tiles import Tiles, index_ijk
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, valid_tokens
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.networks.values import ImageFeatures
from ProxyPromptSegmentLib.support.case import SupportCase

FAR = 30.0  # so that the nearest patch gets all


class PatchBackbone(EchoBackbone):
    """Its features are the patches' own pixels: the support patch that is nearest is the one that looks the same."""

    name, image_size, grid, channels = "patches", 64, 8, 64

    def __init__(self, keeps_aspect):
        super().__init__()
        self.keeps_aspect = keeps_aspect

    def encode(self, images, valid=None):
        return ImageFeatures(
            top=functional.pixel_unshuffle(images[:, :1], 8) * FAR, positions=torch.zeros(64, 8, 8), valid=valid
        )

    def decode(self, features, prompt):
        image = functional.pixel_shuffle(features.top / FAR, 8)
        return super().decode(ImageFeatures(top=image, positions=features.positions, valid=features.valid), prompt)


class PatchModel(EchoModel):
    """The real Selective Map on pixels; what it predicts is the image itself."""

    def __init__(self, keeps_aspect=True, selection="map"):
        super().__init__()
        self.backbone = PatchBackbone(keeps_aspect)
        self.generator.config = tiny_config(selection=selection)
        self.generator.depth_scale = None
        self.generator._coordinates = lambda *args: ProxyPromptGenerator._coordinates(self.generator, *args)
        self.generator._reading = lambda *args: ProxyPromptGenerator._reading(self.generator, *args)
        self.generator.why = lambda *args: ProxyPromptGenerator.why(self.generator, *args)


def noisy_case(size_ijk, spacing_mm, seed=0, name="Case 3"):
    """Noise, so that no patch looks like another, with two objects on its middle slices."""
    geometry = VolumeGeometry(size_ijk, spacing_mm, (-20.0, 30.0, 7.0))
    array = np.random.default_rng(seed).uniform(0, 100, geometry.shape_kji).astype(np.float32)
    near, rest = np.zeros((2, *geometry.shape_kji), np.uint8)
    rows, columns = geometry.shape_kji[1:]
    near[1:-1, : rows // 2, : columns // 2] = 1
    rest[1:-1, rows // 2 :, columns // 3 :] = 1
    return Volume(array, geometry, name), Segmentation([Segment("near", near), Segment("rest", rest)], geometry)


def a_job(cases, target):
    """A job, and how each of its pairs was turned."""
    job = plan([SupportCase(*case) for case in cases], target)
    views = [slice_view(cases[shown.case][0].geometry, shown.axis) for shown in job.shown]
    return job, views


@given(
    order=st.sampled_from(list(permutations(range(3)))),
    flips=st.sampled_from([f for f in product((0, 1, 2), repeat=2)] + [(), (0, 1, 2)]),
    size=st.sampled_from([(40, 56, 5), (64, 30, 4), (48, 48, 6)]),
    spacing=st.sampled_from([(0.7, 1.1, 4.0), (1.0, 1.0, 3.0), (1.2, 0.8, 5.0)]),
    keeps_aspect=st.booleans(),
    place=st.tuples(st.floats(0.02, 0.98), st.floats(0.02, 0.98)),
    slice_number=st.integers(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_a_copy_of_a_support_slice_points_at_the_same_place_of_it(
    order, flips, size, spacing, keeps_aspect, place, slice_number
):
    case = noisy_case(size, spacing)
    stored = turned(case, order, tuple(set(flips)))  # the support is stored in another way than the target
    other = noisy_case(size, spacing, seed=1, name="Case 1")
    target = Volume(case[0].array, case[0].geometry, "new")
    job, views = a_job([other, stored], target)
    ours = [n for n, shown in enumerate(job.shown) if shown.case == 1]
    pair = ours[slice_number]
    images = job.view.take(target.array)
    index = next(n for n, image in enumerate(images) if np.array_equal(image, job.support.pairs[pair].image))
    row, column = (p * n - 0.5 for p, n in zip(place, images.shape[1:], strict=True))

    why = explain(Segmenter(PatchModel(keeps_aspect), "cpu"), job, index, row, column, 0, views=views)
    best = why.patches[0]

    assert (best.pair, best.case, best.name, best.weight > 0.9) == (pair, 1, "Case 3", True)
    assert best.slice_index == job.shown[pair].index
    assert best.box == why.asked  # the same patch of the same picture
    top, left, bottom, right = best.box
    assert top - 1 <= row <= bottom and left - 1 <= column <= right
    seen = job.support.pairs[pair].image[top:bottom, left:right]
    assert why.maps[pair][top:bottom, left:right].sum() > 0.5 * best.weight
    # In the volume as it is stored: the same pixels, and the same place in the body.
    top, left, bottom, right = best.stored_box
    in_volume = take_slices(stored[0].array, best.axis)[best.slice_index, top:bottom, left:right]
    assert in_volume.shape in (seen.shape, seen.shape[::-1])
    np.testing.assert_array_equal(np.sort(in_volume, axis=None), np.sort(seen, axis=None))
    tiles = Tiles.of(Letterbox(64, images.shape[1:3], job.view.spacing_mm, keeps_aspect), 8)
    in_target = index_ijk(tiles.center(tiles.at(row, column)), images.shape[1:3], job.view, index)
    bodies = [geometry.index_to_lps(ijk) for geometry, ijk in
              ((stored[0].geometry, best.center_ijk), (target.geometry, in_target))]  # fmt: skip
    np.testing.assert_allclose(*bodies, atol=1e-6)
    jump = np.round(best.center_ijk).astype(int)[::-1]
    assert stored[0].array[tuple(jump)] in seen  # where a viewer jumps to


def _rect(box):
    return slice(box[0], box[2]), slice(box[1], box[3])


@given(
    shapes=st.lists(st.tuples(st.integers(5, 90), st.integers(5, 90)), min_size=1, max_size=3),
    spacing=st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0)),
    keeps_aspect=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_tiles_cover_the_slice_once_and_keep_every_weight(shapes, spacing, keeps_aspect):
    for shape in shapes:
        letterbox = Letterbox(64, shape, spacing, keeps_aspect)
        tiles = Tiles.of(letterbox, 8)
        valid = valid_tokens(letterbox, 8).numpy()
        rows, columns = len(tiles.rows) - 1, len(tiles.columns) - 1
        assert valid.sum() == rows * columns and valid[:rows, :columns].all()
        weights = np.random.default_rng(0).uniform(size=(8, 8)) * valid
        assert tiles.spread(weights).sum() == pytest.approx(weights.sum(), rel=1e-5)
        assert tiles.spread(weights).shape == shape
        # Each pixel's centre lies in one tile, and `at` finds it.
        if min(np.diff(tiles.rows).min(), np.diff(tiles.columns).min()) > 1:
            counted = np.zeros(shape, int)
            for token in product(range(rows), range(columns)):
                box = tiles.box(token)
                counted[_rect(box)] += 1
                assert tiles.at(box[0], box[1]) == tiles.at(box[2] - 1, box[3] - 1) == token
            assert (counted == 1).all()


@pytest.fixture(scope="module")
def tiny():
    return Segmenter(tiny_model(**EVERYTHING), "cpu")


@pytest.fixture(scope="module")
def tiny_job():
    """Supports of two sizes, both with padding, and a target of a third."""
    cases = [noisy_case((40, 56, 5), (0.7, 1.1, 4.0)), noisy_case((64, 30, 4), (1.0, 1.0, 3.0), 1, "Case 1")]
    return a_job(cases, noisy_case((50, 44, 4), (1.0, 0.9, 3.0), 2, "new")[0])


def test_the_weights_are_a_softmax_of_distances_without_the_padding(tiny, tiny_job):
    job, views = tiny_job
    why = explain(tiny, job, 2, 30.2, 11.0, 1, views=views)
    images = job.view.take(job.target.array)
    features = tiny.encode(images[2:3], job.window, job.view.spacing_mm)
    prepared = tiny.prepare(job.support)
    height, width = features.box.valid
    token = int(30.7 * height / images.shape[1] / 8), int(11.5 * width / images.shape[2] / 8)
    asked = features.features.top[0, :, token[0], token[1]].double().numpy()
    scores = np.full(prepared.valid.shape, -np.inf)
    for pair, position in np.argwhere(prepared.valid.numpy()):
        distance = asked - prepared.features[pair, :, position].double().numpy()
        scores[pair, position] = -(distance**2).sum() / np.sqrt(32)
    expected = np.exp(scores - scores.max())
    expected /= expected.sum()
    np.testing.assert_allclose(why.shares, expected.sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose([one.sum() for one in why.maps], why.shares, rtol=1e-5)
    assert [one.shape for one in why.maps] == [pair.image.shape for pair in job.support.pairs]
    heaviest = np.sort(expected, axis=None)[::-1][:6]
    np.testing.assert_allclose([patch.weight for patch in why.patches], heaviest, rtol=1e-3)
    assert why.shares.sum() == pytest.approx(1, abs=1e-5)
    # The middle of a tile in the slice has that tile's weight spread over its pixels.
    first = why.patches[0]
    tiles = Tiles.of(tiny.letterbox(why.maps[first.pair].shape, job.support.pairs[first.pair].spacing_mm), 8)
    middle = tuple((a + b) // 2 for a, b in zip(first.box[:2], first.box[2:], strict=True))
    token = tiles.at(*middle)
    area = np.diff(tiles.rows)[token[0]] * np.diff(tiles.columns)[token[1]]
    assert why.maps[first.pair][middle] == pytest.approx(first.weight / area, rel=1e-4)


def test_what_lies_on_the_object_and_its_probability_are_those_of_the_segmenter(tiny, tiny_job):
    job, _ = tiny_job
    why = explain(tiny, job, 1, 12.4, 20.6, 0, most=3)
    inside = sum((one * pair.masks[0]).sum() for one, pair in zip(why.maps, job.support.pairs, strict=True))
    assert why.inside == pytest.approx(float(inside), rel=1e-5)
    assert 0 < why.inside < 1
    images = job.view.take(job.target.array)
    result = tiny.segment(images, job.support, job.window, job.view.spacing_mm, [1])
    assert why.probability == pytest.approx(result.probability[1, 0, 12, 21] * result.presence[1, 0], rel=1e-4)
    assert len(why.patches) == 3 and why.name == "near"
    for patch in why.patches:
        mask = job.support.pairs[patch.pair].masks[0][_rect(patch.box)]
        assert patch.inside == pytest.approx(mask.mean(), abs=0.3)
        assert patch.stored_box is not None and patch.center_ijk is not None
    unknown = replace(job, shown=tuple(replace(one, view=None) for one in job.shown))
    for patch in explain(tiny, unknown, 1, 12.4, 20.6, 0, most=3).patches:
        assert patch.stored_box is None and patch.center_ijk is None  # nobody said how the pairs were turned


def test_it_says_where_it_was_read_in_words():
    case = noisy_case((48, 48, 6), (1.0, 1.0, 3.0))
    job, views = a_job([case], Volume(case[0].array, case[0].geometry, "new"))
    why = explain(Segmenter(PatchModel(), "cpu"), job, 2, 10, 10, 0, views=views)
    place = why.patches[0]
    assert (place.inside, why.inside) == (1.0, pytest.approx(1, abs=0.02))
    assert why.sentence == "100 % of what was read lies on 'near' in Case 3, slice 2."
    beside = explain(Segmenter(PatchModel(), "cpu"), job, 2, 10, 10, 1, views=views)
    assert beside.sentence.startswith("Almost nothing of what was read lies on 'rest'; most (")
    assert beside.sentence.endswith("lies outside of it in Case 3, slice 2.")
    assert why.patch_mm == pytest.approx((6.0, 6.0))
    assert "6 x 6 mm" in why.caveat and "not why it was right" in why.caveat


def test_several_cases_and_slices_are_named_in_the_sentence(tiny, tiny_job):
    text = explain(tiny, tiny_job[0], 1, 12, 20, 0).sentence
    assert " of what was read lies on 'near': " in text
    assert "in Case 3, " in text and "in Case 1, " in text and ", slices 1 and 2" in text


def test_the_mean_ablation_reads_the_same_place_of_every_support():
    case = noisy_case((48, 48, 6), (1.0, 1.0, 3.0))
    job, _ = a_job([case], Volume(case[0].array, case[0].geometry, "new"))
    why = explain(Segmenter(PatchModel(selection="mean"), "cpu"), job, 2, 10, 10, 0)
    np.testing.assert_allclose(why.shares, np.full(4, 0.25))
    assert {patch.box for patch in why.patches} == {why.asked} and len(why.patches) == 4


def test_an_embedding_that_is_there_is_used_and_a_wrong_one_is_not(tiny, tiny_job, monkeypatch):
    job, _ = tiny_job
    images = job.view.take(job.target.array)
    expected = explain(tiny, job, 1, 12, 20, 0)
    right = tiny.encode(images[1:2], job.window, job.view.spacing_mm)
    wrong = tiny.encode(images[2:3], job.window, job.view.spacing_mm)
    prepared = tiny.prepare(job.support)
    calls = []
    encode = tiny.model.backbone.encode
    monkeypatch.setattr(tiny.model.backbone, "encode", lambda *a: calls.append(1) or encode(*a))
    for encoded, count in ((right, 0), (wrong, 1)):
        again = explain(tiny, job, 1, 12, 20, 0, encoded, prepared=prepared)
        np.testing.assert_allclose(again.shares, expected.shares, rtol=1e-5)
        assert again.probability == pytest.approx(expected.probability, rel=1e-5)
        assert len(calls) == count


@pytest.mark.parametrize(
    ("index", "row", "column", "number", "told"),
    [
        (4, 1, 1, 0, "has no slice 4; its slices are 0 to 3"),
        (-1, 1, 1, 0, "has no slice -1"),
        (1, 44, 1, 0, "outside of the slice, which has 44 rows and 50 columns"),
        (1, 1, 49.5, 0, "outside of the slice"),
        (1, -0.6, 1, 0, "outside of the slice"),
        (1, float("nan"), 1, 0, "outside of the slice"),
        (1, 1, 1, 2, "object 2 does not exist"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(tiny, tiny_job, index, row, column, number, told):
    with pytest.raises(UsageError, match=told):
        explain(tiny, tiny_job[0], index, row, column, number)
