"""Thumbnails of supports: the right slice, the right place, the right colours, without Pillow or matplotlib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vtk")

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentModule.supports.thumbnails import (
    BACKGROUND,
    best_slice,
    case_picture,
    picture_of_file,
    resized,
    thumbnail_of,
)

ROOT = Path(__file__).resolve().parents[3]
RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def square(shape=(64, 64), rows=(20, 40), columns=(30, 50)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = 1
    return mask


def pure(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(color, np.uint8)).all(axis=-1)


def test_contours_lie_around_the_object_and_nothing_else_is_coloured() -> None:
    image = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    picture = thumbnail_of(image, square()[None], [RED], (0.0, 1.0))
    rows, columns = np.nonzero(pure(picture, (255, 0, 0)))
    scale = 96 / (20 * 1.7)  # the object's extent with its margins fills the picture
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8
    for at in (rows, columns):
        assert abs(at.min() - 7 * scale) <= 2 and abs(at.max() - 27 * scale) <= 2
    grey = picture[~pure(picture, (255, 0, 0))]
    assert (grey.max(axis=-1) == grey.min(axis=-1)).all()
    assert picture[48, 90].mean() > picture[48, 5].mean() + 50, "the image gets brighter to the right"
    assert not pure(picture, (255, 0, 0))[45:50, 45:50].any(), "only its border is drawn"


def test_each_object_has_its_colour_and_black_becomes_visible() -> None:
    masks = np.stack([square(columns=(5, 15)), square(columns=(45, 60))])
    picture = thumbnail_of(np.zeros((64, 64), np.float32), masks, [GREEN, (0.0, 0.0, 0.0)], (0.0, 1.0))
    green, yellow = pure(picture, (0, 255, 0)), pure(picture, (255, 255, 0))
    assert green.any() and yellow.any() and np.nonzero(green)[1].max() < np.nonzero(yellow)[1].min()


def test_proportions_are_those_of_the_body() -> None:
    mask = square((20, 60), (5, 15), (10, 40))  # 10 rows of 3 mm, 30 columns of 1 mm: a square of 30 mm
    picture = thumbnail_of(np.zeros((20, 60), np.float32), mask[None], [RED], (0.0, 1.0), (3.0, 1.0))
    rows, columns = np.nonzero(pure(picture, (255, 0, 0)))
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 4
    tall = thumbnail_of(np.ones((60, 20), np.float32), np.zeros((0, 60, 20), np.uint8), [], (0.0, 1.0), size=30)
    assert pure(tall, BACKGROUND)[:, :9].all() and (tall[:, 10:20] == 255).all()


@pytest.mark.parametrize("where", [(0, 0), (63, 63), (0, 63), (30, 2)])
def test_a_single_voxel_at_any_place_is_seen(where) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[where] = 1
    picture = thumbnail_of(np.zeros((64, 64), np.float32), mask[None], [RED], (0.0, 1.0), size=48)
    assert pure(picture, (255, 0, 0)).any()


def test_a_thin_object_in_a_large_slice_is_seen() -> None:
    mask = square((1000, 1000), (500, 501), (10, 990))
    picture = thumbnail_of(np.zeros((1000, 1000), np.float32), mask[None], [RED], (0.0, 1.0), size=48)
    assert pure(picture, (255, 0, 0)).any(axis=0).sum() > 20


def test_colour_images_keep_their_colours() -> None:
    image = np.zeros((32, 32, 3), np.float32)
    image[..., 2] = 255
    picture = thumbnail_of(image, np.zeros((0, 32, 32), np.uint8), [], (0.0, 255.0), size=16)
    assert pure(picture, (0, 0, 255)).all()


def test_resizing_keeps_constants_means_and_straight_lines() -> None:
    """A line within a fifth of the step between two pixels, which no grey level of a picture shows."""
    ramp = np.tile(np.arange(40, dtype=np.float32), (30, 1))
    assert np.allclose(resized(np.ones((7, 13), np.float32), 29, 5), 1)
    assert np.allclose(
        resized(ramp, 60, 80)[:, 2:-2], np.tile((np.arange(80) + 0.5) / 2 - 0.5, (60, 1))[:, 2:-2], atol=0.2
    )
    noise = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    assert abs(resized(noise, 8, 8).mean() - noise.mean()) < 0.02 and resized(noise, 8, 8).std() < noise.std() / 4


def test_the_slice_with_most_objects_is_chosen_then_the_largest() -> None:
    one, other = np.zeros((2, 6, 8, 8), np.uint8)
    one[1, :7] = one[2, :2] = one[3, :3] = 1
    other[2, 5:] = other[3, 4:] = 1
    assert best_slice([one, other]) == 3 and best_slice([one, other], (1, 2)) == 2 and best_slice([one]) == 1
    assert (
        best_slice([np.zeros((6, 8, 8), np.uint8)]) is None
        and best_slice([]) is None
        and best_slice([one], [5]) is None
    )


def test_a_case_is_shown_as_a_radiologist_looks_at_it() -> None:
    mask = np.zeros((3, 16, 24), np.uint8)
    mask[1, 4:9, 8:13] = mask[2, 4:6, 8:10] = 1
    array = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None], (3, 16, 24))
    geometry = VolumeGeometry((24, 16, 3), (1, 1, 4), direction=np.diag([1, -1, 1]))  # rows run to anterior
    case = SupportCase(Volume(array, geometry), Segmentation([Segment("a", mask, RED)], geometry))
    picture = case_picture(case, "k", 64)
    assert pure(picture, (255, 0, 0)).any() and picture[2].mean() > picture[-3].mean() + 50, "anterior is up"
    chosen = case_picture(SupportCase(case.volume, case.segmentation, (2,)), "k", 64)
    assert not np.array_equal(picture, chosen), "of the chosen slices"


def test_pictures_are_drawn_without_pillow_and_matplotlib(tmp_path) -> None:
    code = (
        "import sys; sys.modules['PIL'] = sys.modules['matplotlib'] = sys.modules['torch'] = None; import numpy as np; "
        "sys.path[:0] = sys.argv[1:]; "
        "from ProxyPromptSegmentModule.supports.thumbnails import thumbnail_of, picture_of_file; "
        "m = np.eye(32, dtype=np.uint8)[None]; print(thumbnail_of(np.eye(32), m, [(1, 0, 0)], (0, 1)).shape, "
        "picture_of_file(__file__ if 0 else 'x.png'))"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(ROOT / "ProxyPromptSegment")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "(96, 96, 3) None", done.stderr


def test_picture_files_are_fitted_or_left_out(tmp_path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((10, 20, 3), 200, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    picture = picture_of_file(tmp_path / "a.png", 40)
    assert (picture[10:30] == 200).all() and pure(picture, BACKGROUND)[:9].all()
    assert picture_of_file(tmp_path / "b.png") is None and picture_of_file(None) is None
