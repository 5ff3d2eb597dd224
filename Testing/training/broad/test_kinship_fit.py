"""Kinship fitted on statistics of images: different kinds of image are separated, different scanners are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_model
from pool_cases import pool
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT
from ProxyPromptSegmentLib.networks.proxy_prompt.kinship import Kinship
from ProxyPromptSegmentLib.training.broad import kinship_fit
from ProxyPromptSegmentLib.training.broad.kinship_fit import Described, describe, fit_kinship, kin_of
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe
from ProxyPromptSegmentLib.training.broad.run import fill_model

RECIPE = BroadRecipe(groups=1, group_size=3, region_groups=0, drawn_groups=0, alike=(("heart", "heart ct"),))
NAMES = ["heart", "heart ct", "eye", "skin"]


def made(seed: int, count: int = 30) -> Described:
    """Return images of four sets: the first two differ in one way, the others in another."""
    chance = torch.Generator().manual_seed(seed)
    means = torch.tensor([[3.0, 1, 0, 0], [3.0, -1, 0, 0], [-3.0, 0, 2, 0], [-3.0, 0, -2, 0]]).repeat(1, 2)
    source = torch.arange(4).repeat_interleave(count)
    values = means[source] + 0.5 * torch.randn(4 * count, 8, generator=chance)
    return Described(values=values, source=source, patients=torch.arange(count).repeat(4))


def logit(module: Kinship, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(one, other.unsqueeze(1), torch.ones(len(one), 1, dtype=torch.bool))


def test_sets_that_may_show_the_same_are_kin_and_all_others_strangers():
    kin = kin_of(NAMES, RECIPE)
    assert kin[0].tolist() == pytest.approx([1, kinship_fit.ALIKE, 0, 0]) and torch.equal(kin, kin.T)


def test_new_images_of_a_set_are_near_and_strangers_far():
    torch.manual_seed(0)
    module = Kinship(4)
    assert fit_kinship(module, made(0), kin_of(NAMES, RECIPE), seed=0, steps=200) > 0.97
    new, known = made(1).values.view(4, 30, 8), made(0).values.view(4, 30, 8)
    for one in range(4):
        for other in range(4):
            speaks = logit(module, new[one], known[other])
            if one == other or {one, other} == {0, 1}:
                assert (speaks > -1.5).float().mean() > 0.9, (one, other)
            else:
                assert (speaks < -2).float().mean() > 0.9, (one, other)


def test_sets_of_one_kind_cannot_be_told_apart():
    everything = dataclasses.replace(RECIPE, alike=(tuple(NAMES),))
    with pytest.raises(UsageError, match="all data sets are of one kind"):
        fit_kinship(Kinship(4), made(0), kin_of(NAMES, everything), seed=0, steps=1)


def test_images_are_described_as_the_network_sees_them():
    torch.manual_seed(0)
    model = build_model("sam-compact", dataclasses.replace(COMPACT, vim_depth=1, vim_dim=16, bridge_width=32)).eval()
    pools = [pool(), pool("second")]
    found = describe(model, pools, seed=3)
    count = len(pools[0].images)
    assert found.values.shape == (2 * count, 2 * COMPACT.channels) and torch.isfinite(found.values).all()
    assert np.bincount(found.source.numpy()).tolist() == [count, count]
    torch.testing.assert_close(describe(model, pools, seed=3).values, found.values)


def test_weights_from_before_kinship_are_a_start():
    torch.manual_seed(0)
    model = tiny_model(presence=True, kinship=True)
    older = {name: value + 1 for name, value in model.state_dict().items() if "kinship" not in name}
    before = model.generator.kinship.embed.weight.clone()
    fill_model(model, older)
    assert torch.equal(model.generator.kinship.embed.weight, before)
    torch.testing.assert_close(model.state_dict()["generator.presence.0.bias"], older["generator.presence.0.bias"])
