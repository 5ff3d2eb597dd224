"""The segmenter: every shortcut gives what the long way gives, and a slice lands where it came from."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from engine_doubles import EchoModel
from ProxyPromptSegmentLib.errors import DeviceError, InputError
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.devices import choose_device
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from slice_cases import assert_same, stack, support


def test_a_stack_is_segmented_on_its_own_grid(segmenter):
    result = segmenter.segment(stack(), support())
    assert result.objects == ("box", "rest")
    assert result.probability.shape == (5, 2, 40, 56)
    assert result.probability.dtype == np.float32
    assert (result.probability >= 0).all()
    assert (result.probability <= 1).all()
    assert result.presence.shape == result.quality.shape == (5, 2)
    assert result.done.all()
    assert not result.cancelled
    # the answers differ, so that the comparisons below say something
    assert np.ptp(result.probability) > 1e-2
    assert np.abs(np.diff(result.probability, axis=0)).max() > 1e-3
    assert np.abs(np.diff(result.probability, axis=1)).max() > 1e-3


def test_slices_in_batches_are_slices_alone(model):
    images, given = stack(), support()
    alone = Segmenter(model, batch=1).segment(images, given)
    for batch in (2, 3, 8):
        assert_same(Segmenter(model, batch=batch).segment(images, given), alone)


def test_kept_embeddings_change_nothing_and_save_every_encoder_pass(segmenter, encode_calls):
    images, prepared, cache = stack(), segmenter.prepare(support()), {}
    encode_calls.clear()
    without = segmenter.segment(images, prepared)
    assert sum(encode_calls) == 5
    first = segmenter.segment(images, prepared, encoded=cache)
    assert sum(encode_calls) == 10
    assert sorted(cache) == [0, 1, 2, 3, 4]
    second = segmenter.segment(images, prepared, encoded=cache)
    assert sum(encode_calls) == 10
    assert_same(first, without)
    assert_same(second, without)


def test_another_support_on_embedded_slices_calls_no_encoder(segmenter, encode_calls):
    images, cache = stack(), {}
    first, second = segmenter.prepare(support()), segmenter.prepare(support(pairs=1, seed=9))
    one = segmenter.segment(images, first, encoded=cache)
    encode_calls.clear()
    other = segmenter.segment(images, second, encoded=cache)
    assert encode_calls == []
    assert_same(other, segmenter.segment(images, second))
    assert np.abs(other.probability - one.probability).max() > 1e-3


def test_a_cache_with_some_of_the_slices_is_completed(segmenter, encode_calls):
    images, prepared, cache = stack(), segmenter.prepare(support()), {}
    segmenter.segment(images, prepared, slices=[1, 4], encoded=cache)
    encode_calls.clear()
    result = segmenter.segment(images, prepared, encoded=cache)
    assert sum(encode_calls) == 3
    assert_same(result, segmenter.segment(images, prepared))


def test_a_prepared_support_is_the_support(segmenter):
    images, given = stack(), support()
    assert_same(segmenter.segment(images, segmenter.prepare(given)), segmenter.segment(images, given), atol=0)


def test_one_object_of_a_prepared_support_is_the_object_alone(segmenter):
    prepared = segmenter.prepare(support())
    both, one = segmenter.segment(stack(), prepared), segmenter.segment(stack(), prepared.objects([1]))
    assert one.objects == ("rest",)
    np.testing.assert_allclose(one.probability[:, 0], both.probability[:, 1], atol=1e-5)


def test_supports_of_other_sizes_than_the_target_are_taken(segmenter):
    small, large = support(1), support(1, shape=(90, 64))
    joined = SupportSet(small.pairs + large.pairs, small.objects)
    prepared = segmenter.prepare(joined)
    assert prepared.features.shape[0] == 2
    assert (prepared.valid[0] != prepared.valid[1]).any()
    assert np.isfinite(segmenter.segment(stack(2), prepared).probability).all()


def test_only_the_wanted_slices_are_done_and_they_are_as_in_the_whole_stack(segmenter):
    images, prepared, seen = stack(), segmenter.prepare(support()), []
    whole = segmenter.segment(images, prepared)
    some = segmenter.segment(images, prepared, slices=[4, 1, 2], on_slice=seen.append)
    assert some.done.tolist() == [False, True, True, False, True]
    assert some.probability[0].max() == 0
    for s in (1, 2, 4):
        np.testing.assert_allclose(some.probability[s], whole.probability[s], atol=1e-5)
    assert [answer.index for answer in seen] == [4, 1, 2]
    np.testing.assert_array_equal(seen[0].probability, some.probability[4])


def test_colour_with_equal_channels_is_the_gray_image(segmenter):
    gray, given = stack(), support()
    coloured = np.repeat(gray[..., None], 3, axis=-1)
    assert_same(segmenter.segment(coloured, given), segmenter.segment(gray, given))
    tinted = coloured.copy()
    tinted[..., 0] *= 0.3
    first, second = (segmenter.segment(images, given, window=(0, 160)).probability for images in (tinted, gray))
    assert np.abs(first - second).max() > 1e-4


def test_colour_supports_and_targets_are_taken(segmenter):
    result = segmenter.segment(stack(channels=(3,)), support(channels=(3,)))
    assert result.probability.shape == (5, 2, 40, 56)


def test_a_constant_stack_is_refused(segmenter):
    with pytest.raises(InputError, match="every voxel"):
        segmenter.segment(np.ones((2, 20, 20), np.float32), support())


def test_the_spacing_of_the_target_matters(segmenter):
    images, prepared = stack(), segmenter.prepare(support())
    square, flat = segmenter.segment(images, prepared), segmenter.segment(images, prepared, spacing_mm=(3.0, 1.0))
    assert np.abs(square.probability - flat.probability).max() > 1e-3
    scaled = segmenter.segment(images, prepared, spacing_mm=(0.5, 0.5))
    assert_same(scaled, square)


@given(
    shape=st.tuples(st.integers(20, 120), st.integers(20, 120)),
    spacing=st.tuples(st.floats(0.5, 1.5), st.floats(0.5, 1.5)),
    center=st.tuples(st.floats(0.35, 0.65), st.floats(0.35, 0.65)),
)
@settings(max_examples=25, deadline=None)
def test_what_a_network_sees_lands_where_it_was_for_any_shape_and_spacing(shape, spacing, center):
    hypothesis.assume(1 / 3 < shape[0] * spacing[0] / (shape[1] * spacing[1]) < 3)
    rows, columns = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    truth = ((rows - center[0]) / 0.3) ** 2 + ((columns - center[1]) / 0.3) ** 2 <= 1
    images = np.stack([truth, ~truth]).astype(np.float32)
    pair = SupportPair(images[0], truth[None].astype(np.uint8), spacing, (0.0, 1.0))
    given = SupportSet((pair,), ("disc",))
    result = Segmenter(EchoModel()).segment(images, given, window=(0.0, 1.0), spacing_mm=spacing)
    masks = result.masks()
    assert masks.shape == (2, 1, *shape)
    for s, expected in enumerate((truth, ~truth)):
        assert (masks[s, 0].astype(bool) & expected).sum() / (masks[s, 0].astype(bool) | expected).sum() > 0.9


def test_the_key_of_embeddings_names_the_images_and_how_they_were_prepared(segmenter):
    images = stack(2)
    key = segmenter.encode(images, (0, 100)).keys
    assert segmenter.encode(images.copy(), (0, 100)).keys == key
    changed = images.copy()
    changed[1, 3, 3] += 1e-3
    others = [
        segmenter.encode(changed, (0, 100)).keys,
        segmenter.encode(images, (0, 101)).keys,
        segmenter.encode(images, (0, 100), (1.0, 2.0)).keys,
        segmenter.encode(images[:1], (0, 100)).keys,
        segmenter.encode(images.reshape(2, 56, 40), (0, 100)).keys,
    ]
    assert len({key, *others}) == 6


def test_gray_slices_and_one_colour_slice_of_the_same_numbers_have_different_keys(segmenter):
    numbers = np.random.default_rng(0).uniform(size=3 * 30 * 30).astype(np.float32)
    gray, colour = numbers.reshape(3, 30, 30), numbers.reshape(1, 30, 30, 3)
    assert segmenter.encode(gray, (0, 1)).keys != segmenter.encode(colour, (0, 1)).keys


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "tpu:0"])
def test_a_device_that_does_not_exist_is_refused(name):
    with pytest.raises(DeviceError) as caught:
        choose_device(name)
    assert caught.value.remedy.kind is RemedyKind.CHOOSE_DEVICE


def test_a_device_this_machine_lacks_is_refused_and_auto_finds_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no cuda device on this machine") as caught:
        choose_device("cuda")
    assert caught.value.remedy.kind is RemedyKind.CHOOSE_DEVICE
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "mps")


def test_supports_of_mixed_sizes_are_prepared_in_the_order_they_were_given(model):
    """Pairs of one size are encoded together; the prepared supports must still be in the set's order."""
    import torch

    rng = np.random.default_rng(3)

    def pair(side):
        mask = np.zeros((1, side, side), np.uint8)
        mask[0, side // 4 : side // 2, side // 3 : side // 2] = 1
        return SupportPair(rng.random((side, side), np.float32), mask, (1.0, 1.0), (0.0, 1.0))

    pairs = [pair(64), pair(96), pair(64)]
    segmenter = Segmenter(model)
    together = segmenter.prepare(SupportSet(tuple(pairs), ("a",)))
    for number, one in enumerate(pairs):
        alone = segmenter.prepare(SupportSet((one,), ("a",)))
        torch.testing.assert_close(together.features[number], alone.features[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.aggregated[number], alone.aggregated[0], atol=1e-4, rtol=1e-4)


def test_embeddings_of_another_stack_are_not_taken_from_the_cache(segmenter):
    """The same slice numbers of another patient must not be answered with the first patient's embeddings."""
    rng = np.random.default_rng(5)
    mask = np.zeros((1, 48, 48), np.uint8)
    mask[0, 10:30, 12:30] = 1
    support = SupportSet((SupportPair(rng.random((48, 48), np.float32), mask, (1.0, 1.0), (0.0, 1.0)),), ("a",))
    first, second = rng.random((3, 48, 48), np.float32), rng.random((3, 48, 48), np.float32)
    cache = {}
    segmenter.segment(first, support, (0, 1), encoded=cache)
    reused = segmenter.segment(second, support, (0, 1), encoded=cache)
    alone = segmenter.segment(second, support, (0, 1))
    np.testing.assert_allclose(reused.probability, alone.probability, atol=1e-5)
