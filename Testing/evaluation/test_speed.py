"""The ratios of time: what is timed is the work that they are named after, counted instead of timed."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from command_cases import InContextModel
from engine_doubles import EchoBackbone
from ProxyPromptSegmentLib.evaluation import speed
from ProxyPromptSegmentLib.inference.segmenter import Segmenter

ENCODING, DECODING = 100, 1


class Worked(EchoBackbone):
    """Counts a slice that is encoded as 100 seconds of work, one that is decoded as one."""

    seconds = 0

    def encode(self, images, valid=None):
        self.seconds += ENCODING * len(images)
        return super().encode(images, valid)

    def prompt_points(self, points, labels, boxes=None):
        assert points is None and labels is None and boxes.shape == (1, 4), "one box and nothing else"
        return torch.zeros(1, 2, 4)

    def decode(self, features, prompt):
        self.seconds += DECODING * len(features.top)
        return super().decode(features, prompt)


class Model(InContextModel):
    """Its prediction counts as decoded by the backbone."""

    def __init__(self):
        super().__init__()
        self.backbone = Worked()

    def predict(self, features, support, chosen=None):
        self.backbone.seconds += DECODING * len(features.top)
        return super().predict(features, support, chosen)


@pytest.fixture
def segmenter(monkeypatch):
    """Its clock advances only with work."""
    made = Segmenter(Model(), "cpu", 5)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(made.model.backbone.seconds))
    return made


def test_the_ratios_compare_the_same_slices_and_a_second_support_encodes_nothing_but_itself(segmenter):
    result = speed.measure_speed(segmenter, supports=4, repeats=3)
    json.dumps(result, allow_nan=False)
    slices, supports = result["slices"], result["supports"]
    assert (slices, supports, result["repeats"], result["batch"]) == (28, 4, 3, 5)
    seconds = result["median_seconds_per_slice"]
    assert seconds["encoder_and_decoder_alone"] == ENCODING + DECODING
    assert seconds["whole_pipeline"] == ENCODING + DECODING, "the support is prepared before"
    first, second = slices * (ENCODING + DECODING) + supports * ENCODING, slices * DECODING + supports * ENCODING
    assert seconds["first_support"] == pytest.approx(first / slices, abs=1e-5)
    assert seconds["second_support"] == pytest.approx(second / slices, abs=1e-5)
    assert result["pipeline_over_frozen"] == 1
    assert result["second_support_over_first"] == pytest.approx(second / first, abs=1e-3)


def test_two_calls_are_timed_in_turns_after_one_warm_up_of_each(monkeypatch):
    clock, calls = itertools.count(), []
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(clock)))
    a, b = speed._alternate(lambda: calls.append("a"), lambda: calls.append("b"), 3)
    assert "".join(calls) == "ab" * 4
    np.testing.assert_array_equal([a, b], np.ones((2, 3)))
