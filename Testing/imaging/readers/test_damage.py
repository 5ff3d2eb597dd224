"""A few damaged files of every format: a sentence or the file. `Testing/benchmarks/fuzz.py` has many more."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")

from fuzz_corpus import mutated, write_corpus
from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.frames import open_frames
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume


@pytest.mark.filterwarnings("ignore")
def test_damage_ends_in_a_sentence_and_never_passes_a_checksum(tmp_path) -> None:
    random = Random(3)
    readers = {"image": read_volume, "mask": read_segmentation, "frames": lambda path: list(open_frames(path))}
    refused = 0
    for seed in write_corpus(tmp_path / "corpus"):
        if seed.kind not in readers:
            continue
        good = readers[seed.kind](seed.path)
        (tmp_path / seed.path.stem).mkdir(exist_ok=True)
        path = tmp_path / seed.path.stem / seed.path.name
        for _ in range(12):
            data, first = mutated(seed.path.read_bytes(), random)
            path.write_bytes(data)
            try:
                found = readers[seed.kind](path)
            except ProxyPromptError as error:
                assert str(error) and "\n" not in str(error)
                refused += 1
            else:
                if seed.checked and first >= seed.header:
                    np.testing.assert_array_equal(found.array, good.array)
    assert refused > 100
