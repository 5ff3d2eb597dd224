"""Files read by another package and by the program, and compared: values, shape and place."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.frames import BadFrame, open_frames
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume

Verdict = tuple[str, str]
_LOSSY = 3.0  # levels of 256 by which decoders of lossy colours differ


ENDINGS = {
    "nibabel": ("*.nii", "*.nii.gz", "*.hdr", "*.dcm", "*.mgz", "*.PAR", "*.mnc", "*.BRIK"),
    "slicerio": ("*.nrrd",),
}


def package_files(name: str) -> list[Path]:
    """Returns the image files that an installed package brings along; none if it is not installed."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent
    if name == "pydicom":
        skipped = (".py", ".pyc", ".json", ".txt", ".md", ".dump", ".icc", ".typed", ".pyi")
        return sorted(f for f in (folder / "data").rglob("*") if f.is_file() and f.suffix not in skipped)
    return sorted({f for ending in ENDINGS[name] for f in folder.rglob(ending)})


def compare(package: str, path: Path) -> Verdict:
    """Compares a file of a package."""
    if package == "pydicom" or path.suffix == ".dcm":
        return compare_dicom(path)
    return compare_nifti(path) if package == "nibabel" else compare_nrrd(path)


def compare_dicom(path: Path) -> Verdict:
    """Compare a DICOM file as a volume, or as frames where it is a clip, with pydicom's reading."""
    import pydicom

    try:
        volume = read_volume(path)
    except ProxyPromptError as error:
        try:
            found = compare_clip(path)
        except ProxyPromptError as second:
            return "refused", str(second) if "track" in str(error) else str(error)
        return found if found[0] != "none" else ("refused", str(error))
    dataset = pydicom.dcmread(path, force=True)
    try:
        expected = values_of(dataset)
    except Exception as error:  # noqa: BLE001  # whatever pydicom says against reading it
        if any(word in str(error) for word in ("missing dependencies", "does not support")):
            return "right", f"as far as can be said: {error}"  # pydicom has no decoder of its own here
        return "WRONG", f"read as {volume.array.shape}, pydicom refuses: {error}"
    found = same(volume.array, expected, dataset)
    if found:
        return "WRONG", found
    wrong = place_differs(volume, dataset)
    return ("WRONG", wrong) if wrong else ("right", str(volume.geometry))


def compare_clip(path: Path) -> Verdict:
    """Compare a clip frame by frame; "none" if the source is no clip."""
    import pydicom

    source = open_frames(path)
    if source.kind != "dicom-cine":
        return "none", ""
    expected = values_of(pydicom.dcmread(path, force=True))
    frames = [frame for _, frame in source]
    if any(isinstance(frame, BadFrame) for frame in frames):
        return "refused", "frames are damaged"
    got = np.stack(frames)
    if not source.rgb and expected.ndim == 4:
        expected = expected.mean(axis=-1)
    found = "" if got.shape == expected.shape and np.abs(got - expected).max() <= _LOSSY else "frames differ"
    return ("WRONG", found) if found else ("right", f"a clip of {len(got)} frames")


def values_of(dataset) -> np.ndarray:
    """Return what pydicom reads: colours as RGB, palettes applied, values rescaled; ``(K, J, I[, 3])``, float64."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    array = dataset.pixel_array  # YBR is converted to RGB by pydicom 3
    frames = int(getattr(dataset, "NumberOfFrames", 1) or 1)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
        if array.dtype == np.uint16 and not (array & 0xFF).any():
            array = array >> 8
    elif int(dataset.SamplesPerPixel) == 1:
        array = apply_modality_lut(array, dataset) * float(dataset.get("DoseGridScaling") or 1)
    array = np.asarray(array, dtype=np.float64)
    return array if frames > 1 else array[None]


def same(got: np.ndarray, expected: np.ndarray, dataset) -> str:
    """Return how values differ; "" if they do not. Of MONOCHROME1 the lowest value is the brightest."""
    if got.shape != expected.shape:
        return f"shape {got.shape} instead of {expected.shape}"
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        expected = expected.max() + expected.min() - expected
        got = got - got.min() + expected.min()
    lossy = dataset.SamplesPerPixel == 3 or "Lossy" in dataset.file_meta.get("TransferSyntaxUID", "").name
    worst = float(np.abs(got - expected).max())
    allowed = _LOSSY * (257 if expected.max() > 255 else 1) if lossy else 1e-3 * max(1.0, np.abs(expected).max() * 1e-3)
    return f"values differ by {worst:g}" if worst > allowed else ""


def place_differs(volume, dataset) -> str:
    """Return how the place differs from what the attributes say; "" if it does not or they say nothing."""
    spacing = (
        dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or dataset.get("NominalScannedPixelSpacing")
    )
    size = volume.geometry.spacing_mm
    if spacing and not np.allclose((size[1], size[0]), [float(x) for x in spacing], rtol=1e-4):
        return f"pixels of {size} mm instead of {list(spacing)}"
    calibrated = {"SharedFunctionalGroupsSequence", "SequenceOfUltrasoundRegions"}
    if not spacing and not any(key in dataset for key in calibrated) and getattr(volume, "has_spacing", True):
        return f"pixels of {size} mm, the file says nothing"
    position, cosines = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    if position and cosines and int(dataset.get("NumberOfFrames") or 1) == 1:
        wanted = np.array([float(x) for x in position])
        if not np.allclose(volume.geometry.origin_lps, wanted, atol=1e-3):
            return f"at {volume.geometry.origin_lps} instead of {wanted}"
        if not np.allclose(volume.geometry.direction[:, :2].T.ravel(), [float(x) for x in cosines], atol=1e-3):
            return "turned"
    offsets = dataset.get("GridFrameOffsetVector")
    if offsets and len(offsets) > 1 and abs(volume.geometry.spacing_mm[2] - abs(float(offsets[1] - offsets[0]))) > 1e-3:
        return f"slices {volume.geometry.spacing_mm[2]} mm apart instead of {offsets[1] - offsets[0]}"
    return ""


def compare_nifti(path: Path) -> Verdict:
    """Compare a file with nibabel's reading."""
    import nibabel

    try:
        volume = read_volume(path)
    except ProxyPromptError as error:
        return "refused", str(error)
    try:
        image = nibabel.load(path)
        expected = np.asarray(image.dataobj, dtype=np.float64)
        expected = expected.reshape(expected.shape[:3] + tuple(n for n in expected.shape[3:] if n > 1)).T
    except Exception as error:  # noqa: BLE001  # whatever nibabel says against reading it
        return "WRONG", f"read as {volume.array.shape}, nibabel refuses: {error}"
    if expected.shape != volume.array.shape or np.abs(expected - volume.array).max() > 1e-3 * np.abs(expected).max():
        return "WRONG", f"values or shape differ: {volume.array.shape} instead of {expected.shape}"
    affine = np.diag([-1, -1, 1, 1]) @ image.affine
    corner = np.array([*(n - 1 for n in volume.geometry.size_ijk), 1])
    far = max(
        np.abs(affine[:3, 3] - volume.geometry.affine[:3, 3]).max(),
        np.abs((affine - volume.geometry.affine) @ corner).max(),
    )
    return ("WRONG", f"lies {far:.3g} mm beside it") if far > 0.05 else ("right", str(volume.geometry))


def compare_nrrd(path: Path) -> Verdict:
    """Compare a NRRD image or a segmentation with pynrrd's or slicerio's reading."""
    import nrrd
    import slicerio

    try:
        if path.name.endswith(".seg.nrrd"):
            found = read_segmentation(path)
            content = slicerio.read_segmentation(str(path))
            layers = content["voxels"] if content["voxels"].ndim == 4 else content["voxels"][None]
            for one, info in zip(found.segments, content["segments"], strict=True):
                if one.name != info["name"] or not np.array_equal(
                    one.mask.T, layers[info.get("layer", 0)] == info["labelValue"]
                ):
                    return "WRONG", f"segment {one.name}"
            wrong = np.abs(found.geometry.affine - content["ijkToLPS"]).max() > 1e-6
            return ("WRONG", "another place") if wrong else ("right", "")
        volume = read_volume(path)
    except ProxyPromptError as error:
        return "refused", str(error)
    array, header = nrrd.read(str(path))
    if not np.allclose(array.T, volume.array):
        return "WRONG", "values differ"
    signs = np.array([-1, -1, 1]) if header["space"].startswith("right-anterior") else np.ones(3)
    wrong = (
        np.abs(np.asarray(header["space directions"]).T * signs[:, None] - volume.geometry.affine[:3, :3]).max() > 1e-6
    )
    return ("WRONG", "another place") if wrong else ("right", "")
