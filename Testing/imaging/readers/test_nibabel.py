"""NIfTI as nibabel writes it: our own reader gives nibabel's values at nibabel's place, whatever the header's form."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")

from peer_readings import compare_nifti
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume

TURN = np.array([[0.9526614854740363, 0, 0.3040330598026857], [0, 1, 0], [-0.3040330598026857, 0, 0.9526614854740363]])
SHAPE = (7, 6, 5)


def affine(mirrored: bool = False, scale: float = 1.0) -> np.ndarray:
    made = np.eye(4)
    made[:3, :3] = TURN * (0.8 * scale, 1.1 * scale, 3.3 * scale)
    if mirrored:
        made[:3, 0] *= -1
    made[:3, 3] = np.array([-12.5, 30.25, 7.0]) * scale
    return made


def an_image(kind, dtype: str = "i2", sform: int = 1, qform: int = 0, mirrored: bool = False, unit: str = "mm"):
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    matrix = affine(mirrored, {"mm": 1.0, "micron": 1000.0, "meter": 1e-3}[unit])
    image = kind(values, matrix)
    image.set_sform(matrix if sform else None, sform)
    image.set_qform(matrix if qform else None, qform)
    image.header.set_xyzt_units(unit)
    return image


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_values_and_place_are_nibabels(tmp_path, kind, suffix) -> None:
    path = tmp_path / f"x{suffix}"
    types = ((dtype, (1, 1), False) for dtype in ("u1", ">i2", "u2", "i4", ">f4", "f8"))
    forms = product(("i2",), ((1, 0), (0, 1), (4, 2)), (False, True))
    for dtype, (sform, qform), mirrored in (*types, *forms):
        image = an_image(kind, dtype, sform, qform, mirrored)
        if dtype.startswith(">"):
            header = image.header.as_byteswapped()
            image = kind(np.asarray(image.dataobj), image.affine, header)
        nibabel.save(image, path)
        verdict = compare_nifti(path)
        assert verdict[0] == "right", (dtype, sform, qform, mirrored, verdict)


@pytest.mark.parametrize("unit", ["micron", "meter"])
def test_lengths_are_in_mm_whatever_the_unit(tmp_path, unit) -> None:
    nibabel.save(an_image(nibabel.Nifti1Image, unit=unit), tmp_path / "x.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "x.nii").geometry.spacing_mm, (0.8, 1.1, 3.3), rtol=1e-5)


def test_a_scale_is_applied_to_the_values(tmp_path) -> None:
    image = an_image(nibabel.Nifti1Image)
    image.header.set_slope_inter(0.25, -7)
    nibabel.save(image, tmp_path / "x.nii.gz")
    assert compare_nifti(tmp_path / "x.nii.gz")[0] == "right"


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (2, 1), (4, 2), (0, 0)])
def test_a_result_has_for_nibabel_the_matrices_and_codes_of_its_target(tmp_path, sform, qform) -> None:
    image = an_image(nibabel.Nifti1Image, sform=sform, qform=qform)
    if sform and qform:  # a qform that lies elsewhere, as after a registration
        moved = affine()
        moved[:3, 3] += (10, 20, 30)
        image.set_qform(moved, qform)
    nibabel.save(image, tmp_path / "t.nii.gz")
    geometry = read_volume(tmp_path / "t.nii.gz").geometry
    mask = np.zeros(geometry.shape_kji, np.uint8)
    mask[1:3, 2:4, 1:6] = 1
    write_segmentation(tmp_path / "r.nii.gz", Segmentation([Segment("a", mask)], geometry), tmp_path / "t.nii.gz")
    target, result = (nibabel.load(tmp_path / name) for name in ("t.nii.gz", "r.nii.gz"))
    np.testing.assert_array_equal(np.asarray(result.dataobj), mask.T)
    if sform or qform:  # else nothing says how the target lies
        assert VolumeGeometry.from_affine(np.diag([-1, -1, 1, 1]) @ result.affine, SHAPE).is_close(geometry)
    for coded in ("get_sform", "get_qform"):
        (one, first), (other, second) = (getattr(found, coded)(coded=True) for found in (target, result))
        assert first == second
        assert (one is None) == (other is None) and (one is None or np.allclose(one, other, atol=1e-5))
    np.testing.assert_allclose(result.affine, target.affine, atol=1e-5)
