"""A tilted target that is segmented in the plane of its supports: the result lies on its own slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("SimpleITK")

from engine_doubles import EVERYTHING, tiny_model
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.results import empty_result
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.support.orientation import frame_of
from ProxyPromptSegmentLib.support.reslicing import Reslicing
from ProxyPromptSegmentLib.worker.events import SliceReady
from ProxyPromptSegmentLib.worker.resliced import brought_back, in_support_plane, point_in_support_plane
from ProxyPromptSegmentLib.worker.tasks import SegmentTask, WhyTask
from worker_doubles import Talk, a_support_case, an_engine, phantom

COS, SIN = np.cos(np.deg2rad(35)), np.sin(np.deg2rad(35))
TILT = np.array([[1, 0, 0], [0, COS, -SIN], [0, SIN, COS]])


@pytest.fixture
def job():
    """A job whose target is tilted by 35 degrees and resampled in the plane of its support, whatever it shows."""
    support, target = a_support_case(11), phantom(12)[0]
    geometry = target.geometry
    tilted = VolumeGeometry(
        geometry.size_ijk, geometry.spacing_mm, tuple(TILT @ geometry.origin_lps), TILT @ geometry.direction
    )
    flat = plan([support], Volume(target.array, geometry, "target"))
    own = support.volume.geometry
    target = Volume(target.array, tilted, "target")
    grid = Reslicing.parallel(target, frame_of(own, "k"), own, "k")
    return replace(flat, target=target, reslicing=grid)


def test_a_mask_comes_back_to_the_same_place(job):
    turned = in_support_plane(SegmentTask(job)).job
    grid, own = job.reslicing.geometry, job.target.geometry
    assert turned.target.geometry is grid
    assert turned.slices == tuple(range(grid.shape_kji[0]))
    result = empty_result(job.support.objects, grid.shape_kji[0], grid.shape_kji[1:], across_slices=False)
    result.done[:] = True
    centre = own.index_to_lps((np.array(own.size_ijk) - 1) / 2)
    places = grid.index_to_lps(np.stack(np.meshgrid(*(np.arange(n) for n in grid.size_ijk), indexing="ij"), axis=-1))
    ball = (np.linalg.norm(places - centre, axis=-1) < 15).transpose(2, 1, 0)
    result.probability[:, 0], result.presence[:] = 0.9 * ball, 1.0
    masks = ball[:, None].astype(np.uint8)
    confidence = np.where(ball.any(axis=(1, 2)), 0.7, 0.9).astype(np.float32)[:, None]
    found = brought_back(result, masks, confidence, job, 0.5)
    own_places = own.index_to_lps(np.stack(np.meshgrid(*(np.arange(n) for n in own.size_ijk), indexing="ij"), axis=-1))
    expected = job.view.take((np.linalg.norm(own_places - centre, axis=-1) < 15).transpose(2, 1, 0))
    drawn = found.masks(0.5)[:, 0] > 0
    assert 2 * (drawn & expected).sum() / (drawn.sum() + expected.sum()) > 0.9
    shown = drawn.any(axis=(1, 2))
    np.testing.assert_allclose(found.quality[shown, 0], 0.7, atol=1e-4)
    assert found.done.all()


def test_only_the_slices_that_are_crossed_are_segmented(job):
    some = in_support_plane(SegmentTask(replace(job, slices=(0,)))).job.slices
    assert 0 < len(some) <= job.reslicing.geometry.shape_kji[0]
    assert some == tuple(range(some[0], some[-1] + 1))


def test_a_run_sends_each_wanted_slice_of_the_target_once_and_none_of_the_resampled_one(job):
    engine, talk = an_engine(Segmenter(tiny_model(**EVERYTHING), "cpu", batch=4)), Talk()
    wanted = replace(job, slices=(2, 3, 4))
    found = talk.do(SegmentTask(wanted, register=False), engine)
    assert np.flatnonzero(found.result.done).tolist() == [2, 3, 4]
    assert sorted(event.index for event in talk.of(SliceReady)) == [2, 3, 4]
    assert found.segmentation.geometry is job.target.geometry
    assert found.masks.shape[0] == job.target.geometry.shape_kji[0]


def test_a_cancelled_run_that_has_segmented_nothing_writes_nothing_and_says_why(job):
    talk = Talk()
    talk.cancel.cancel()
    found = talk.do(SegmentTask(job, register=False), an_engine(Segmenter(tiny_model(**EVERYTHING), "cpu", batch=4)))
    assert found.cancelled
    assert not found.masks.any()
    assert "0 of" in " ".join(str(note) for note in found.notes)


def test_a_cancelled_run_keeps_the_slices_whose_parts_are_all_there(job):
    own = job.support.objects
    count, rows, columns = job.reslicing.geometry.shape_kji
    result = empty_result(own, count, (rows, columns), across_slices=False)
    result.probability[:], result.presence[:], result.cancelled = 0.9, 1.0, True
    masks, sure = np.ones((count, len(own), rows, columns), np.uint8), np.full((count, len(own)), 0.9, np.float32)
    whole = brought_back(replace(result, cancelled=False), masks, sure, job, 0.5)
    lowest = {}
    for index in job.slices:
        only = replace(job, slices=(index,))
        lowest[index] = in_support_plane(SegmentTask(only)).job.slices
    first = job.slices[0]
    result.done[list(lowest[first])] = True
    part = brought_back(result, masks, sure, job, 0.5)
    assert part.done[first]
    np.testing.assert_array_equal(part.masks(0.5)[first], whole.masks(0.5)[first])
    assert not part.done.all()
    for index in np.flatnonzero(part.done):
        assert result.done[list(lowest[int(index)])[1:-1]].all()
    assert f"{part.done.sum()} of {len(job.slices)} slices are complete" in " ".join(map(str, part.notes))


def test_a_point_is_explained_where_it_lies_in_the_resampled_target(job):
    asked = point_in_support_plane(WhyTask(job, 5, 20.0, 30.0))
    own, grid = job.target.geometry, job.reslicing.geometry
    numbers = np.arange(np.prod(own.shape_kji)).reshape(own.shape_kji)
    k, j, i = np.unravel_index(int(job.view.take(numbers)[5, 20, 30]), own.shape_kji)
    there = grid.index_to_lps((asked.column, asked.row, asked.index))
    limit = np.array(grid.spacing_mm)
    inside = np.clip(grid.lps_to_index(own.index_to_lps((i, j, k))), 0, np.array(grid.size_ijk) - 1)
    assert (np.abs(grid.lps_to_index(there) - inside) <= 0.51).all(), limit
    assert asked.job.reslicing is None
