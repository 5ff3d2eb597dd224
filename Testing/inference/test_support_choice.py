"""Each target slice reads the supports most like it; every object is shown, and few supports are all read."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_model
from ProxyPromptSegmentLib.inference.likeness import most_alike
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet


def shown_on(*shows):
    """Supports that show some of two objects: ``"ab"``, ``"a"``, ``"b"``."""
    occupancy = torch.tensor([[[float(name in one)] for name in "ab"] for one in shows])
    nothing = torch.zeros(len(shows), 1, 1)
    return PreparedSupport(
        features=nothing,
        aggregated=nothing[:, None].expand(-1, 2, -1, -1),
        occupancy=occupancy,
        valid=torch.ones(len(shows), 1, dtype=torch.bool),
    )


def chosen(apart, support, most):
    found = most_alike(torch.tensor(apart), support, most)
    return None if found is None else found.tolist()


def test_each_slice_reads_the_supports_nearest_to_it_in_their_own_order():
    support = shown_on("ab", "ab", "ab", "ab")
    assert chosen([[3.0, 1.0, 2.0, 0.5], [0.1, 5.0, 4.0, 0.2]], support, 2) == [[1, 3], [0, 3]]


def test_so_few_supports_are_all_read_and_so_are_all_if_asked_for():
    support = shown_on("ab", "ab", "ab")
    assert chosen([[3.0, 1.0, 2.0]], support, 3) is None
    assert chosen([[3.0, 1.0, 2.0]], support, None) is None


def test_every_object_is_on_one_of_the_supports_that_are_read():
    support = shown_on("a", "a", "a", "b", "b")
    assert chosen([[1.0, 2.0, 3.0, 5.0, 4.0]], support, 2) == [[0, 4]]
    assert chosen([[1.0, 2.0, 3.0, 5.0, 4.0]], support, 3) == [[0, 1, 4]]
    assert chosen([[1.0, 2.0, 3.0, 5.0, 4.0]], support, 1) == [[0, 4]], "more than asked for, rather than lose one"


@pytest.fixture(scope="module")
def asked():
    """A model with random weights, target slices, and supports of which two are the target slices themselves."""
    rng = np.random.default_rng(0)
    images = rng.normal(100, 20, (2, 64, 64)).astype(np.float32)
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[:, 20:40, 20:40] = 1
    others = [rng.normal(100, 20, (64, 64)).astype(np.float32) for _ in range(3)]
    pairs = tuple(
        SupportPair(image, mask, (1.0, 1.0), (0, 200)) for image in (others[0], images[1], *others[1:], images[0])
    )
    model = tiny_model(prompt="both", mask_prior=True, presence=True, positions="sam_dense")
    return model, images, SupportSet(pairs, ("gland",))


def some(support, numbers):
    return SupportSet(tuple(support.pairs[number] for number in numbers), support.objects)


def test_a_slice_is_segmented_as_with_the_chosen_supports_alone(asked):
    model, images, support = asked
    found = Segmenter(model, most_read=1).segment(images, support, (0, 200))
    for index, own in ((0, 4), (1, 1)):
        alone = Segmenter(model).segment(images[index : index + 1], some(support, [own]), (0, 200))
        np.testing.assert_allclose(found.probability[index], alone.probability[0], atol=1e-5)
        np.testing.assert_allclose(found.presence[index], alone.presence[0], atol=1e-5)
        assert found.evidence[index, 0, -1] == pytest.approx(0, abs=2e-2)
    every = Segmenter(model).segment(images, support, (0, 200))
    assert np.abs(found.probability - every.probability).max() > 1e-3


def test_a_result_with_few_supports_is_the_same_to_the_last_bit(asked):
    model, images, support = asked
    plain, choosing = (Segmenter(model, most_read=most).segment(images, support, (0, 200)) for most in (None, 5))
    for name in ("probability", "presence", "quality", "evidence"):
        np.testing.assert_array_equal(getattr(choosing, name), getattr(plain, name))


def test_what_a_slice_reads_can_be_asked_for(asked):
    model, images, support = asked
    segmenter = Segmenter(model, most_read=1)
    encoded, prepared = segmenter.encode(images[:1], (0, 200)), segmenter.prepare(support)
    assert segmenter.read_by(encoded, prepared) == [4]
    assert segmenter.reading(None).read_by(encoded, prepared) == [0, 1, 2, 3, 4]
    assert segmenter.most_read == 1
