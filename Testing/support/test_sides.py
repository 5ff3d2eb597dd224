"""Whether left and right of annotated slices may be exchanged."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.support.sides import coarse, lies_on_both_sides


@pytest.mark.parametrize("shape", [(64, 64), (50, 71), (16, 16), (9, 5)])
def test_a_coarse_mask_is_what_torch_pools(shape):
    torch = pytest.importorskip("torch")
    mask = (np.random.default_rng(1).random(shape) < 0.4).astype(np.uint8)
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask).double()[None, None], 16)[0, 0].numpy()
    assert np.abs(coarse(mask) - pooled).max() < 1e-12


def test_an_object_that_no_slice_shows_decides_nothing():
    masks = np.zeros((2, 32, 32), np.uint8)
    masks[0, 8:24, 8:24] = 1
    assert lies_on_both_sides(["gland", "tumour"], [masks])
    masks[1, 8:24, :8] = 1
    assert not lies_on_both_sides(["gland", "tumour"], [masks])


@pytest.mark.parametrize("name", ["atrium (left)", "atrium.right", "leftAtrium", "kidneyR", "Left-atrium", "LT lobe"])
def test_a_side_in_a_name_is_seen_however_it_is_written(name):
    masks = np.zeros((1, 32, 32), np.uint8)
    masks[0, 8:24, 8:24] = 1
    assert not lies_on_both_sides([name], [masks])
    assert lies_on_both_sides(["L4", "rectum", "CTVrl2"], [np.repeat(masks, 3, axis=0)])
