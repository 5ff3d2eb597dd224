"""Files for the masks of tracked frames.

Masks are received and written frame by frame. Formats for frames in time:

* ``.seq.nrrd``: a sequence of label maps, ``kinds: domain domain domain list`` with ``DataNodeClassName`` and
  ``axis 3 index values`` as written by Slicer 5.10 and newer. Slicer loads it without any extension (it has no
  format for sequences of segmentations); it can be played together with the image sequence.
* ``.seg.nrrd``: one segmentation with the frames as slices 1 mm apart; keeps names, colours and overlaps.
* ``.nii.gz``, ``.nii``, ``.nrrd``, ``.mha``: the same as a label map, held in memory (a byte per pixel).
* a folder (a name without suffix): a PNG for each frame.

Label maps have 0 outside, and the values that the support has, or 1, 2, ... in the order of the objects.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, OutputError
from ProxyPromptSegmentLib.frames import FrameSource
from ProxyPromptSegmentLib.frames.kept_masks import KeptMasks, Masks
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, axis_number
from ProxyPromptSegmentLib.imaging.itk_images import array_to_image, write_image
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.imaging.partial_files import held, partial_of, partial_pattern, remove_abandoned
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.segmentations import (
    Segment,
    Segmentation,
    default_color,
    distinct_values,
    write_segmentation,
)

TRACKED_SUFFIXES = (".seq.nrrd", ".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha")
MOST_OBJECTS = 255
_INDEX_TOLERANCE = 0.001  # Slicer treats index values closer than this as the same item


def check_tracked_path(path: Path, source: FrameSource) -> None:
    """Reject an output path for masks that cannot be written; call this before long work.

    Raises:
        OutputError: If the suffix is unknown or unsuitable for the kind of source, or the path is not writable.
    """
    if _is_folder_name(path):
        if source.kind == "volume":
            raise OutputError(f"{path} is the name of a folder; a volume's masks are one file, e.g. {path}.seg.nrrd.")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            raise OutputError(f"The folder {path.parent} does not exist or is not writable; choose another one.")
        if path.is_dir() and any(path.iterdir()):
            raise OutputError(f"The folder {path} is not empty; give a new one, existing files are never overwritten.")
        return
    if _is_seq(path) and source.kind == "volume":
        raise OutputError(f"{path.name} is a sequence in time, {source.name} is a volume; write .seg.nrrd or .nii.gz.")
    check_output_path(path, TRACKED_SUFFIXES)


def write_tracked(
    path: Path | str,
    masks: Masks | Iterable[Masks],
    source: FrameSource,
    names: Sequence[str],
    colors: Sequence[tuple[float, float, float]] | None = None,
    terminologies: Sequence[dict[str, Any] | None] | None = None,
    done: npt.NDArray[np.bool_] | Sequence[bool] | None = None,
    numbers: Sequence[int] | None = None,
    values: Sequence[int] | None = None,
    *,
    replace: bool = True,
) -> list[str]:
    """Write the masks of all frames, completely or not at all.

    Args:
        path: Output path; its suffix selects the format, see the top of this module. The slices of a volume become
            a segmentation with exactly its geometry.
        masks: uint8 ``(T, N, H, W)`` in the frames' orientation, or its items one after another; objects may
            overlap.
        source: The source of the frames.
        names: Names of the objects.
        colors: Red, green, blue in 0..1 of each object; by default Slicer's generic anatomy colours.
        terminologies: Slicer's terminology entry of each object, or None.
        done: Whether each frame was computed, ``(T,)``; the masks of the others count as empty.
        numbers: Indices of the frames in the source, ascending; 0, 1, ... by default.
        values: Value of each object in a label map, as its support has it; 0 if it has none.
        replace: Whether a file of this name may be replaced.

    Returns:
        Notes for the user, as sentences.

    Raises:
        GeometryError: If masks, frames and objects do not match.
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    check_tracked_path(path, source)
    if not 1 <= len(names) <= MOST_OBJECTS:
        raise OutputError(f"{len(names)} objects cannot be written to {path.name}; allowed are 1 to {MOST_OBJECTS}.")
    done = None if done is None else np.asarray(done, dtype=bool)
    count = None if done is None else len(done)
    kept = KeptMasks(masks, (len(names), *source.shape), done)
    if count is not None and len(kept) != count:
        raise GeometryError(f"there are masks of {len(kept)} frames, but {count} frames were tracked.")
    where = list(range(len(kept))) if numbers is None else [int(n) for n in numbers]
    if len(where) != len(kept) or not where:
        raise GeometryError(f"there are masks of {len(kept)} frames, but numbers of {len(where)}.")
    shades = [default_color(n) for n in range(len(names))] if colors is None else list(colors)
    terms = list(terminologies or [None] * len(names))
    objects = _Objects([str(name) for name in names], shades, terms, list(values or [0] * len(names)))
    notes = []
    if done is not None and not done.all():
        notes.append(f"{path.name}: {int((~done).sum())} of {count} frames were not computed and are empty.")
    if source.kind == "volume":
        return notes + _write_volume(path, kept, source, objects, where, replace)
    if _is_folder_name(path):
        _write_folder(path, kept, source, objects, where)
    elif _is_seq(path):
        _write_sequence(path, kept, source, objects, where, done, replace)
    elif suffix_of(path) == ".seg.nrrd":
        _write_stacked(path, kept, source, objects, replace)
        return notes
    else:
        labels = np.stack([objects.labels(source.as_stored(frame)) for frame in kept])
        with safe_output(path, replace) as partial:
            write_image(partial, array_to_image(labels, stacked_geometry(source, len(kept))))
    if kept.overlap:
        notes.append(
            f"{path.name}: {kept.overlap} pixels belong to several objects; a label map keeps the last one. Write "
            ".seg.nrrd to keep all."
        )
    return notes


def stacked_geometry(source: FrameSource, count: int) -> VolumeGeometry:
    """Return the geometry of ``count`` frames stacked as slices along k, 1 mm apart, starting at the first."""
    own, across = source.geometry, 2 - axis_number(source.view.axis)
    order = [*(n for n in range(3) if n != across), across]
    size, spacing = ([values[n] for n in order[:2]] for values in (own.size_ijk, own.spacing_mm))
    return VolumeGeometry(
        (int(size[0]), int(size[1]), count), (spacing[0], spacing[1], 1.0), own.origin_lps, own.direction[:, order]
    )


class _Objects:
    """Names, colours, terminology and label values of the objects."""

    def __init__(
        self,
        names: list[str],
        colors: list[tuple[float, float, float]],
        terms: list[dict[str, Any] | None],
        given: list[int],
    ) -> None:
        if not len(names) == len(colors) == len(terms) == len(given):
            raise GeometryError(
                f"{len(names)} names, {len(colors)} colours, {len(terms)} terms and {len(given)} values do not match."
            )
        self.names, self.colors, self.terms, self._given = names, colors, terms, given
        self.values = distinct_values(names, given)

    def labels(self, masks: Masks) -> npt.NDArray[Any]:
        """Return a label map from ``(N, H, W)``, uint8 or uint16; the last one wins overlaps."""
        labels = np.zeros(masks.shape[1:], np.uint8 if max(self.values) <= MOST_OBJECTS else np.uint16)
        for value, mask in zip(self.values, masks, strict=True):
            labels[mask > 0] = value
        return labels

    def segmentation(self, masks: Sequence[Masks], geometry: VolumeGeometry) -> Segmentation:
        """Build a segmentation of these objects from masks ``(K, J, I)``."""
        known = [{"label_value": value} if value else {} for value in self._given]
        each = zip(self.names, masks, self.colors, self.terms, known, strict=True)
        return Segmentation([Segment(*values) for values in each], geometry)


def _is_seq(path: Path) -> bool:
    return path.name.lower().endswith((".seq.nrrd", ".seq.nhdr"))


def _is_folder_name(path: Path) -> bool:
    return path.is_dir() or not path.suffix


def _write_volume(
    path: Path, kept: KeptMasks, source: FrameSource, objects: _Objects, where: list[int], replace: bool
) -> list[str]:
    """Write the masks of a volume's slices as a segmentation in its geometry."""
    if min(where) < 0 or max(where) >= (source.count or 0):
        raise GeometryError(
            f"there is no slice {max(where)} in {source.name}; its slices are 0 to {(source.count or 0) - 1}."
        )
    volumes = [np.zeros(source.geometry.shape_kji, np.uint8) for _ in objects.names]
    slices = [source.view.take(volume) for volume in volumes]
    for number, masks in zip(where, kept, strict=True):
        for target, mask in zip(slices, masks, strict=True):
            target[number] = mask
    return write_segmentation(path, objects.segmentation(volumes, source.geometry), source.path, replace=replace)


def _write_folder(path: Path, kept: KeptMasks, source: FrameSource, objects: _Objects, where: list[int]) -> None:
    """Write one PNG per frame into a temporary folder that is renamed when all are written."""
    from PIL import Image

    labels = source.labels if source.labels and len(set(source.labels)) == len(source.labels) else None
    partial = partial_of(path)
    try:
        with held(partial, folder=True):
            remove_abandoned(path.parent, partial_pattern(path))
            for number, masks in zip(where, kept, strict=True):
                name = labels[number] if labels else f"frame_{number:05d}"
                Image.fromarray(objects.labels(source.as_stored(masks))).save(partial / f"{name}.png")
        if path.is_dir():
            path.rmdir()
        partial.rename(path)  # fails if another program has written it meanwhile
    except OSError as error:
        raise OutputError(
            f"The folder {path} could not be written: {error.strerror or error}. Free up space, or choose another one."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_sequence(
    path: Path, kept: KeptMasks, source: FrameSource, objects: _Objects, where: list[int], done: Any, replace: bool
) -> None:
    """Write a sequence of label maps, frame by frame."""
    geometry = source.geometry
    name, unit, values = _index_values(source, where)
    name, unit = (text.replace('"', "") for text in (name, unit))
    matrix = geometry.affine
    vectors = " ".join("(" + ",".join(f"{x:.17g}" for x in matrix[:3, n]) + ")" for n in range(3))
    lines = [
        "NRRD0005",
        "# A sequence of label maps; the values are those of the objects named below.",
        f"type: {'unsigned char' if max(objects.values) <= MOST_OBJECTS else 'unsigned short'}",
        "endian: little",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in geometry.size_ijk)} {len(kept)}",
        f"space directions: {vectors} none",
        "kinds: domain domain domain list",
        f'labels: "" "" "" "{name}"',
        f'units: "" "" "" "{unit}"',
        "encoding: gzip",
        f"space origin: ({','.join(f'{x:.17g}' for x in geometry.origin_lps)})",
        "DataNodeClassName:=vtkMRMLLabelMapVolumeNode",
        "axis 3 index type:=numeric",
        f"axis 3 index values:={' '.join(values)}",
    ]
    for n, title, color in zip(objects.values, objects.names, objects.colors, strict=True):
        lines.append(f"Label{n}_Name:={' '.join(title.split())}")
        lines.append(f"Label{n}_Color:={' '.join(f'{c:.6g}' for c in color)}")
    for n, whole in enumerate([] if done is None else done):
        if not whole:
            lines.append(f"axis 3 item {n:04d} ProxyPromptState:=not done")
    with safe_output(path, replace) as partial, partial.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        with gzip.GzipFile("", "wb", 6, file, 0) as packed:
            for masks in kept:
                labels = objects.labels(source.as_stored(masks))
                packed.write(labels.astype(labels.dtype.newbyteorder("<")).data)


def _index_values(source: FrameSource, where: list[int]) -> tuple[str, str, list[str]]:
    """Return name, unit and values of the time axis: the source file's own, its times, or the frame indices."""
    if source.index and len(source.index[2]) > max(where):
        return source.index[0], source.index[1], [source.index[2][n] for n in where]
    if source.times_s and len(source.times_s) > max(where):
        times = [source.times_s[n] for n in where]
        if np.all(np.diff(times) > 2 * _INDEX_TOLERANCE):
            return "time", "s", [f"{t:.9g}" for t in times]
    return "frame", "", [str(n) for n in where]


def _write_stacked(path: Path, kept: KeptMasks, source: FrameSource, objects: _Objects, replace: bool) -> None:
    """Write one segmentation with all frames as slices, frame by frame.

    The header is that of a one-slice segmentation, made by `write_segmentation`, with the number of slices
    changed, so that Slicer's fields are known in one place only. Objects share a layer unless any overlap.
    """
    geometry = stacked_geometry(source, 1)
    layers = len(objects.names) if kept.overlap else 1
    blank = np.full(geometry.shape_kji, int(layers > 1), np.uint8)
    size = " ".join(str(n) for n in geometry.size_ijk[:2])
    one = partial_of(path)  # there is space where the result goes
    try:
        write_segmentation(one, objects.segmentation([blank] * len(objects.names), geometry))
        header = one.read_bytes().partition(b"\n\n")[0].decode("utf-8")
    except OutputError as error:
        raise OutputError(str(error).replace(one.name, path.name)) from None
    finally:
        one.unlink(missing_ok=True)
    values = [int(value) for value in re.findall(r"(?m)^Segment\d+_LabelValue:=(\d+)$", header)]
    kind = np.uint8 if max(values) <= MOST_OBJECTS else np.dtype("<u2")
    front = f"{layers} " if layers > 1 else ""
    header, sizes = re.subn(rf"(?m)^sizes: {front}{size} 1$", f"sizes: {front}{size} {len(kept)}", header)
    header, extents = re.subn(r"(?m)^(Segment\d+_Extent:=.*) 0$", rf"\1 {len(kept) - 1}", header)
    if (sizes, extents, len(values)) != (1, *[len(objects.names)] * 2) or "encoding: gzip" not in header:
        raise OutputError(f"{path.name} could not be written: slicerio made an unexpected header. Write .seq.nrrd.")
    with safe_output(path, replace) as partial, partial.open("wb") as file:
        file.write(header.encode() + b"\n\n")
        with gzip.GzipFile("", "wb", 6, file, 0) as packed:
            for masks in kept:
                stored = source.as_stored(masks)
                frame = np.moveaxis(stored, 0, -1) * np.array(values) if layers > 1 else objects.labels(stored)
                packed.write(np.ascontiguousarray(frame.astype(kind)).data)
