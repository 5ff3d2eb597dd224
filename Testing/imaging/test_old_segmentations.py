"""Segmentations that older versions of Slicer wrote: which layer and value a segment has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation


def _old_slicer_file(path: Path, layers: np.ndarray, **fields: str) -> Path:
    """Writes layers ``(L, I, J, K)`` with two segments; ``fields`` are added to each, ``{n}`` is its number."""
    import nrrd

    header = {
        "space": "left-posterior-superior", "space directions": np.vstack([[np.nan] * 3, np.eye(3)]),
        "space origin": [0, 0, 0], "kinds": ["list", "domain", "domain", "domain"], "encoding": "gzip",
    }  # fmt: skip
    for n, name in enumerate(("prostate", "other")):
        header |= {f"Segment{n}_ID": f"Segment_{n + 1}", f"Segment{n}_Name": name, f"Segment{n}_Color": "0.5 0.2 0.1"}
        header |= {f"Segment{n}_{key}": value.format(n=n) for key, value in fields.items()}
    nrrd.write(str(path), layers, header)
    return path


def test_without_layers_and_values_a_segment_is_the_layer_of_its_number_as_in_slicer(tmp_path: Path) -> None:
    layers = np.zeros((2, 6, 5, 4), np.uint8)
    layers[0, 1:3], layers[1, 3:5] = 1, 1
    found = read_segmentation(_old_slicer_file(tmp_path / "x.seg.nrrd", layers))
    assert found.names == ["prostate", "other"]
    for segment, layer in zip(found.segments, layers, strict=True):
        np.testing.assert_array_equal(segment.mask, layer.T)


def test_a_layer_that_is_not_there_and_the_value_of_the_background_are_refused(tmp_path: Path) -> None:
    layers = np.ones((2, 6, 5, 4), np.uint8)
    with pytest.raises(InputError, match="should be in layer 2 of 2"):
        read_segmentation(_old_slicer_file(tmp_path / "x.seg.nrrd", layers, Layer="2", LabelValue="1"))
    with pytest.raises(InputError, match="label value 0; 0 is the background"):
        read_segmentation(_old_slicer_file(tmp_path / "x.seg.nrrd", layers, Layer="{n}", LabelValue="0"))


def test_two_segments_of_one_value_in_one_layer_cannot_be_told_apart(tmp_path: Path) -> None:
    layers = np.zeros((2, 6, 5, 4), np.uint8)
    layers[0, 1:3], layers[1, 3:5] = 1, 1
    path = _old_slicer_file(tmp_path / "x.seg.nrrd", layers, Layer="0", LabelValue="1")
    with pytest.raises(InputError, match=r"'prostate' and 'other' have one label value \(1\) in one layer"):
        read_segmentation(path)
    read_segmentation(_old_slicer_file(tmp_path / "y.seg.nrrd", layers, Layer="{n}", LabelValue="1"))
