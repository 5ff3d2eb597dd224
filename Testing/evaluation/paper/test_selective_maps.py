"""The selective map for several supports: what it needs of its data sets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from compared_cases import drawn_case, tiny_frozen  # noqa: E402
from ProxyPromptSegmentLib.data.original.items import Item  # noqa: E402
from ProxyPromptSegmentLib.errors import InputError  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.catalogue import protocols  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.loading import Loaded  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.protocol import Measure  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.selective_maps import measure_maps  # noqa: E402

FIGURE = next(one for one in protocols() if one.measure is Measure.MAP)


def loaded(need, cases):
    items = [Item(one.name, one.patient, lambda one=one: one) for one in cases]
    return Loaded(need=need, name=need.stand_in, original=False, parts={"train": items[1:], "test": items[:1]})


def test_the_target_is_the_first_image_that_shows_every_object_and_what_is_missing_is_named():
    cases = [drawn_case(n) for n in range(5)]
    other, own = (loaded(need, cases) for need in FIGURE.sets)
    segmenter = tiny_frozen().segmenter
    with pytest.raises(InputError, match=f"{FIGURE.id} needs {FIGURE.sets[-1].title} .* as well"):
        measure_maps(FIGURE, segmenter, [other], "test")
    empty = dataclasses.replace(cases[0], masks=np.zeros_like(cases[0].masks))
    nothing = loaded(FIGURE.sets[-1], [empty, *cases[1:]])
    with pytest.raises(InputError, match="no test image of .* shows every object"):
        measure_maps(FIGURE, segmenter, [other, nothing], "test")
    with pytest.raises(InputError, match="no training image of .* shows every object"):
        measure_maps(FIGURE, segmenter, [loaded(FIGURE.sets[0], [cases[0], empty]), own], "test")
    rows = measure_maps(FIGURE, segmenter, [other, own], "test")
    assert rows[0].error == 0 and rows[0].source.startswith("c0") and len(rows) == len(FIGURE.rows)
