"""The command line where memory runs out: it takes the same steps down as the module, and finishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
OBJECTS, PAIRS = 4, 64  # few objects and many support slices: the Selective Map takes the memory
GRID = VolumeGeometry((128, 128, PAIRS), (1.0, 1.0, 3.0))

# Segments once with half of the support slices; then bounds the address space a little above what that needed, and
# segments with all of them.
PROGRAM = """
    import re, resource, sys
    from pathlib import Path
    from ProxyPromptSegmentLib.cli import main
    import torch
    torch.set_num_threads(1)
    words = sys.argv[1:]
    assert main([*words, "--support-slices", "16:47", "--quiet", "--output", "half.nii.gz"]) in (0, 9)
    needed = int(re.search(r"VmPeak:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    bound = needed + (36 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    sys.exit(main([*words, "--support-slices", "0:63", "--output", "all.nii.gz", "--report", "report.json"]))
"""


def many_objects() -> Segmentation:
    """Squares that fill every slice."""
    side = 2
    step = GRID.size_ijk[0] // side
    segments = []
    for number in range(OBJECTS):
        mask = np.zeros(GRID.shape_kji, np.uint8)
        row, column = (step * place for place in divmod(number, side))
        mask[:, row : row + step - 1, column : column + step - 1] = 1
        segments.append(Segment(f"square {number}", mask, (0.8, 0.2, 0.1)))
    return Segmentation(segments, GRID)


@pytest.mark.slow  # the steps themselves are tested in Testing/worker/test_memory_ladder.py
@pytest.mark.skipif(sys.platform != "linux", reason="address space is bounded and measured as Linux does it")
def test_with_too_little_memory_fewer_support_slices_are_used_and_the_run_finishes(tmp_path) -> None:
    random = np.random.default_rng(0)
    for name in ("old", "new"):
        write_volume(tmp_path / f"{name}.nrrd", Volume(random.normal(size=GRID.shape_kji).astype(np.float32), GRID))
    write_segmentation(tmp_path / "old.seg.nrrd", many_objects())
    words = [
        "segment",
        "--support",
        "old.nrrd",
        "old.seg.nrrd",
        "--target",
        "new.nrrd",
        "--slices",
        "4",
        "--all-supports",
        "--no-register",
        "--no-closer",
    ]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *words, "--device", "cpu"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 9), done.stderr
    assert f"prompted by 32 of the {PAIRS} support slices" in done.stderr
    assert (tmp_path / "all.nii.gz").is_file()
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["state"] == "complete" and any("memory of cpu" in note for note in report["notes"])
