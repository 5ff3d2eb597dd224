"""The guard that lets a CPU build of PyTorch live with a torchvision built for CUDA."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchvision_guard import plain_nms

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
GUARD = "from torchvision_guard import ensure_torchvision_importable as guard; guard(); "
corner, side = st.integers(0, 8), st.integers(0, 6)


def overlap_ratio(a, b):
    """Intersection over union of two boxes, number by number."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - width * height
    return width * height / union if union else 0.0


def nms_by_hand(boxes, scores, threshold):
    """The definition: best first, each box is kept unless a kept one overlaps it by more than the threshold."""
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap_ratio(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(corner, corner, side, side, st.integers(0, 5)), max_size=12),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)
def test_the_kept_boxes_are_those_of_the_definition(drawn, threshold):
    boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in drawn]
    scores = [row[4] / 8 for row in drawn]
    found = plain_nms(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), torch.tensor(scores), threshold)
    assert found.tolist() == nms_by_hand(boxes, scores, threshold) and found.dtype == torch.int64


def test_an_overlap_equal_to_the_threshold_is_kept_and_the_best_comes_first():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 8], [20, 20, 24, 24]])
    scores = torch.tensor([0.5, 0.4, 0.9])
    assert plain_nms(boxes, scores, 0.5).tolist() == [2, 0, 1]
    assert plain_nms(boxes, scores, 0.49).tolist() == [2, 0]


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=HELPERS, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_after_the_guard_the_packages_import_and_torchvisions_own_nms_is_right():
    boxes = [[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [2, 2, 12, 12]]
    scores = [0.1, 0.9, 0.5, 0.2]
    code = (
        GUARD + "guard(); import segment_anything, peft; from torchvision.ops import nms, batched_nms; "
        f"import torch; b, s = torch.tensor({boxes}), torch.tensor({scores}); guard(); "
        "print(*nms(b, s, 0.5).tolist(), '|', *batched_nms(b, s, torch.tensor([0, 0, 1, 1]), 0.5).tolist())"
    )
    alone = [str(i) for i in nms_by_hand(boxes, scores, 0.5)]
    assert alone == ["1", "2"]
    assert run_python(code) == [*alone, "|", "1", "2", "3"]


def test_an_operator_that_exists_is_not_declared_again():
    code = (
        "import torch; own = torch.library.Library('torchvision', 'DEF'); "
        "own.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'); "
        "own.impl('nms', lambda d, s, t: torch.full((1,), 77), 'CPU'); "
        "import torchvision_guard as g; g._declare_missing(); g._declare_missing(); "
        "print(*torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5).tolist(), "
        "hasattr(torch.ops.torchvision, 'roi_align'))"
    )
    assert run_python(code) == ["77", "True"]


def test_another_fault_of_torchvision_is_not_hidden(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("print('tried'); raise RuntimeError('the disk is on fire')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\ntry: {GUARD}\nexcept RuntimeError as e: print(str(e)[-4:])"
    )
    assert run_python(code) == ["tried", "fire"]
