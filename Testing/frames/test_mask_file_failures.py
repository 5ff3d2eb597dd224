"""Masks of frames that cannot be written: refused before the work, and nothing half written."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from frame_cases import a_sequence, a_volume, labels_of, some_masks
from ProxyPromptSegmentLib.errors import GeometryError, OutputError
from ProxyPromptSegmentLib.frames import mask_files
from ProxyPromptSegmentLib.frames.mask_files import check_tracked_path, write_tracked

RED = (1.0, 0.0, 0.0)


def test_masks_that_do_not_go_with_the_frames_are_refused(tmp_path):
    source = a_sequence(tmp_path)
    masks = some_masks(5, 2, source.shape)
    for wrong, more, told in (
        (masks, {"done": [True] * 4}, "masks of 5 frames, but 4 frames"),
        (masks[:, :1], {}, r"masks of frame 0 have shape \(1, 8, 6\)"),
        (masks[..., 1:], {}, "shape"),
        (masks, {"numbers": [1, 2]}, "numbers of 2"),
        (masks, {"colors": [RED]}, "1 colours"),
        (masks[:0], {}, "0 frames"),
    ):
        with pytest.raises(GeometryError, match=told):
            write_tracked(tmp_path / "m.seq.nrrd", wrong, source, ["a", "b"], **more)
    assert os.listdir(tmp_path) == ["cine.seq.nrrd"]


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path):
    source, volume = a_sequence(tmp_path), a_volume(tmp_path)
    for path, of, told in (
        (tmp_path / "m.stl", source, "no supported suffix for a result"),
        (tmp_path / "nowhere" / "m.seq.nrrd", source, "does not exist"),
        (tmp_path / "nowhere" / "m", source, "does not exist"),
        (tmp_path / "m", volume, "name of a folder"),
        (tmp_path / "m.seq.nrrd", volume, "is a volume"),
        (tmp_path, source, "not empty"),
    ):
        with pytest.raises(OutputError, match=told):
            check_tracked_path(path, of)
    for name in ("m.seq.nrrd", "m.seg.nrrd", "m.nii.gz", "m"):
        check_tracked_path(tmp_path / name, source)


@pytest.mark.parametrize("name", ["m.seq.nrrd", "m.seg.nrrd", "m.nii.gz", "m"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("the model")])
def test_masks_that_stop_coming_leave_nothing_half_written(tmp_path, name, error):
    source = a_sequence(tmp_path)

    def masks():
        yield from some_masks(2, 1, source.shape)
        raise error

    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        write_tracked(tmp_path / name, masks(), source, ["a"])
    assert os.listdir(tmp_path) == ["cine.seq.nrrd"]


@pytest.mark.parametrize("name", ["m.seq.nrrd", "m.seg.nrrd", "m"])
def test_a_failing_disk_leaves_the_old_file_and_nothing_half_written(tmp_path, name, monkeypatch):
    source = a_sequence(tmp_path)
    if name != "m":
        (tmp_path / name).write_bytes(b"old result")
    before = sorted(os.listdir(tmp_path))
    calls = []

    def labels(self, masks: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return labels_of(masks[None])[0]

    monkeypatch.setattr(mask_files._Objects, "labels", labels)
    with pytest.raises(OutputError, match="could not be written: No space left"):
        write_tracked(tmp_path / name, some_masks(5, 1, source.shape), source, ["a"])
    assert sorted(os.listdir(tmp_path)) == before
    assert name == "m" or (tmp_path / name).read_bytes() == b"old result"
