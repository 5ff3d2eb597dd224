"""Keys that are averaged where the support says one thing: what is read, by whom, and the weights that are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_config, tiny_model
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.proxy_prompt.merged_keys import MergedKeys

SIDE = 64


def support(masks: torch.Tensor, side: int) -> MergedKeys:
    """Return the merging for masks ``(K, N, side, side)`` without padding."""
    return MergedKeys.of(masks.flatten(2), torch.ones(len(masks), side * side, dtype=torch.bool), side)


def pictures(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    images, masks = torch.rand(count, 3, SIDE, SIDE, generator=chance), torch.zeros(count, 2, SIDE, SIDE)
    masks[:, 0, 10:40, 12:30], masks[:, 1, 30:60, 34:50] = 1, 1
    return images, masks


def test_squares_at_a_border_or_beside_one_keep_their_keys():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1  # the border runs between two squares
    merged = support(mask, 8)
    assert merged.even[2].view(4, 4).tolist() == [[True, False, False, True]] * 4 and not merged.even[4].any()
    assert merged.counts().tolist() == [4.0] * 8 + [1.0] * 32
    nothing = support(torch.zeros(2, 3, 8, 8), 8)
    assert nothing.even[4].all() and not nothing.even[2].any() and not nothing.single.any()
    assert nothing.counts().tolist() == [16.0] * 8
    assert list(support(torch.zeros(1, 1, 6, 6), 6).even) == [2]


def test_larger_squares_are_averaged_eight_positions_away_from_every_border():
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :5] = 1
    merged = support(mask, 32)
    assert merged.even[4].view(8, 8)[0].tolist() == [False] * 4 + [True] * 4  # from column 16 on: 13 are within reach
    assert merged.even[2].view(16, 16)[0].tolist() == [True, True, False] + [True] * 5 + [False] * 8
    assert merged.counts().sum() == 32 * 32


def test_a_border_of_any_object_or_of_the_image_counts():
    masks = torch.zeros(1, 2, 16, 16)
    masks[0, 1, 12:, 12:] = 1
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    valid[..., :4, :] = False
    merged = MergedKeys.of(masks.flatten(2), valid.flatten(1), 16)
    even = merged.even[2].view(8, 8)
    assert not even[5:7, 5:].any() and not even[1:3].any() and even[0].all() and even[4, :4].all()


def test_joined_values_are_averages_and_weights_are_spread_over_what_they_stand_for():
    mask = torch.zeros(2, 1, 8, 8)
    mask[1, ..., :4] = 1
    merged, values = support(mask, 8), torch.randn(2, 3, 64)
    joined, counts = merged.join(values), merged.counts()
    assert joined.shape == (3, len(counts)) and counts.sum() == 2 * 64 and set(counts.tolist()) == {1.0, 4.0, 16.0}
    torch.testing.assert_close((joined * counts).sum(1), values.sum((0, 2)))
    weights = torch.rand(5, len(counts))
    spread = merged.spread(weights)
    torch.testing.assert_close(spread.sum((1, 2)), weights.sum(1))
    # Reading by spread weights is reading the joined values.
    torch.testing.assert_close(torch.einsum("qkp,kcp->qc", spread, values), weights @ joined.T, rtol=1e-4, atol=1e-4)


def test_where_keys_are_alike_merging_changes_nothing():
    plain, merging = tiny_model(), tiny_model(merge_keys=True)
    merging.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        supports = plain.prepare(*pictures(2), ("a", "b"))
        # Keys and values that are the same in every square: an average of them is exact.
        side = plain.backbone.grid
        for part in (supports.features, supports.aggregated):
            square = part.view(*part.shape[:-1], side, side)
            square.copy_(square[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
        occupancy = torch.zeros_like(supports.occupancy).view(2, 2, side, side)
        occupancy[:, 0, :, : side // 2], occupancy[:, 1, side // 2 :] = 1, 1
        supports.occupancy.copy_(occupancy.flatten(2))
        features = plain.backbone.encode(pictures(2, 3)[0])
        for one, other in zip(
            plain.generator.context(features, supports), merging.generator.context(features, supports), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        positions = torch.tensor([0, side + 3])
        torch.testing.assert_close(
            plain.generator.why(features.select([0]), supports, positions),
            merging.generator.why(features.select([0]), supports, positions),
            rtol=1e-4,
            atol=1e-6,
        )


def test_each_target_reads_its_own_choice_of_supports():
    model = tiny_model(merge_keys=True)
    with torch.inference_mode():
        supports = model.prepare(*pictures(3), ("a", "b"))
        features = model.backbone.encode(pictures(3, 5)[0])
        chosen = torch.tensor([[2, 0], [1, -1], [2, 0]])
        together = model.generator.context(features, supports, chosen)
        for target, row in enumerate(([2, 0], [1], [2, 0])):
            alone = model.generator.context(features.select([target]), supports.supports(row))
            for one, other in zip(together, alone, strict=True):
                torch.testing.assert_close(one[target : target + 1], other, rtol=1e-4, atol=1e-5)


def test_supports_are_merged_once_for_all_targets_and_a_selection_of_them_begins_with_nothing(monkeypatch):
    merged, merge = [], MergedKeys.of
    monkeypatch.setattr(MergedKeys, "of", lambda *words: merged.append(len(words[0])) or merge(*words))
    model = tiny_model(merge_keys=True)
    with torch.inference_mode():
        supports = model.prepare(*pictures(3), ("a", "b"))
        features = model.backbone.encode(pictures(2, 5)[0])
        first = model.generator.context(features, supports)[0]
        assert merged == [1, 1, 1]
        again = model.generator.context(features, supports, torch.tensor([[0, 1, 2], [2, -1, -1]]))[0]
        assert merged == [1, 1, 1]
        torch.testing.assert_close(again[0], first[0])
        changed = replace(supports, occupancy=1 - supports.occupancy)
        assert not changed.kept and not supports.supports([0]).kept and not supports.objects([0]).kept
        inside, outside = (model.generator.context(features, one)[1] for one in (supports, changed))
        torch.testing.assert_close(inside + outside, torch.ones_like(inside))  # the weights of each position sum to 1


def test_training_reads_every_key():
    model, plain = tiny_model(merge_keys=True), tiny_model()
    plain.load_state_dict(model.state_dict())
    features, supports = model.backbone.encode(pictures(1, 3)[0]), model.prepare(*pictures(2), ("a", "b"))
    in_use = model.generator.context(features, supports)[0]
    model.train()
    in_training, of_all = model.generator.context(features, supports)[0], plain.generator.context(features, supports)[0]
    torch.testing.assert_close(in_training, of_all)
    assert not torch.allclose(in_use, of_all, atol=1e-5)


def test_an_odd_grid_cannot_be_merged():
    with pytest.raises(UsageError, match="is not even"):
        tiny_config(merge_keys=True, grid=5, image_size=40)
