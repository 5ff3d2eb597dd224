"""The Selective Map with two products and one pass: the softmax's numbers, also where the shortcut cannot be taken."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_model
from ProxyPromptSegmentLib.networks.proxy_prompt import support_reading
from ProxyPromptSegmentLib.networks.proxy_prompt.selective_map import read_support, summed
from ProxyPromptSegmentLib.networks.proxy_prompt.summed_map import ROWS, SummedMap

POSITIONS = 200  # more than are read at a time, and no multiple of it


@pytest.fixture
def case():
    """Targets, supports, values, which keys may be read, and for how many each of them stands."""
    chance = torch.Generator().manual_seed(0)
    target, support = (torch.randn(*shape, generator=chance) for shape in ((2, 9, POSITIONS), (9, 50)))
    values, allowed = torch.randn(50, 7, generator=chance), torch.rand(50, generator=chance) > 0.3
    return target, support, values, allowed, torch.randint(1, 5, (50,), generator=chance).float()


def both_ways(target, support, values, allowed, counts):
    """Return what is read with the sums among the values, and with a softmax."""
    assert POSITIONS > ROWS
    with torch.inference_mode():
        options = {"temperature": 0.7, "channels": 8, "counts": counts}  # one coordinate is no feature
        short = summed(support, values, allowed, **options).read(target)
        chunks = read_support(target, support, values, allowed, chunk=POSITIONS, **options)
        assert torch.equal(read_support(target, support, values, allowed, **options), short)
    return short, chunks


def test_it_reads_what_a_softmax_reads(case):
    short, chunks = both_ways(*case)
    assert short.shape == (2, POSITIONS, 7) and short.std() > 0.1
    torch.testing.assert_close(short, chunks, rtol=1e-5, atol=1e-6)


def test_targets_that_are_far_from_every_key_still_read_the_nearest(case, monkeypatch):
    far, read = [], SummedMap._read_far
    monkeypatch.setattr(SummedMap, "_read_far", lambda self, queries: far.append(1) or read(self, queries))
    target, *rest = case
    both_ways(target, *rest)
    assert not far
    target = target.clone()
    target[1, :, 3] = 40.0  # weights of exp(-500) are 0 in single precision
    short, chunks = both_ways(target, *rest)
    assert far and short.isfinite().all()
    torch.testing.assert_close(short, chunks, rtol=1e-4, atol=1e-5)


def test_what_many_targets_read_is_arranged_once(monkeypatch):
    made = []
    monkeypatch.setattr(support_reading, "summed", lambda *words: made.append(len(words[1])) or summed(*words))
    model, chance = tiny_model(merge_keys=True), torch.Generator().manual_seed(0)
    images, masks = torch.rand(3, 3, 64, 64, generator=chance), torch.zeros(3, 1, 64, 64)
    masks[:, :, 10:40, 12:30] = 1
    with torch.inference_mode():
        supports, features = model.prepare(images, masks, ("a",)), model.backbone.encode(images)
        whole = model.generator.context(features, supports)[0]
        for target in range(3):
            one = model.generator.context(features.select([target]), supports)[0]
            torch.testing.assert_close(one, whole[target : target + 1], rtol=1e-5, atol=1e-6)
        assert len(made) == 1
        model.generator.context(features, supports, torch.tensor([[0, 1]] * 3))
    assert len(made) == 2 and made[1] < made[0]
    with torch.no_grad():  # a kept arrangement is of these very supports
        fewer = supports.supports([0, 1])
        model.generator.context(features, fewer)
    assert made[2] == made[1]
