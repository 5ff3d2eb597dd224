"""Connected components: those that SciPy finds, whatever their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ProxyPromptSegmentLib.imaging.components import component_labels, component_sizes

masks = st.sampled_from([2, 3]).flatmap(
    lambda axes: hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * axes), elements=st.integers(0, 1))
)


@given(masks)
@settings(max_examples=60, deadline=None)
def test_the_components_are_those_of_scipy(mask) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    expected, count = ndimage.label(mask)
    labels, box = component_labels(mask)
    whole = np.zeros(mask.shape, labels.dtype)
    whole[box] = labels
    assert len({*zip(expected[mask > 0], whole[mask > 0], strict=True)}) == count == int(labels.max(initial=0))
    assert not whole[mask == 0].any()
    assert sorted(component_sizes(labels)) == sorted(np.bincount(expected.ravel())[1:])


def test_an_empty_mask_has_no_component() -> None:
    labels, box = component_labels(np.zeros((3, 4, 5), np.uint8))
    assert labels.size == 0 and component_sizes(labels).size == 0
    assert box == (slice(0, 0),) * 3
