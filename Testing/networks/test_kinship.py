"""Kinship: images of another kind speak against a target, padding and unread supports do not count."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_config, tiny_model
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.proxy_prompt.kinship import Kinship, statistics


def trained(channels: int = 4) -> Kinship:
    torch.manual_seed(0)
    module = Kinship(channels)
    torch.nn.init.normal_(module.embed.weight, std=1.0)
    return module


def test_statistics_are_those_of_the_image_without_its_padding():
    features, valid = torch.randn(2, 4, 10), torch.ones(2, 10, dtype=torch.bool)
    valid[1, 6:] = False
    features[1, :, 6:] = 1e3
    found = statistics(features, valid)
    torch.testing.assert_close(found[1, :4], features[1, :, :6].mean(1))
    torch.testing.assert_close(found[1, 4:], features[1, :, :6].std(1, correction=0), rtol=1e-4, atol=1e-4)
    assert torch.isfinite(statistics(features, torch.zeros_like(valid))).all()


def test_the_nearest_support_that_is_read_decides():
    module, target = trained(), torch.randn(1, 8)
    far, same = torch.randn(1, 1, 8) * 5, target.unsqueeze(1)
    both = torch.cat([far, same], 1)
    read = torch.tensor([[True, True]])
    near, away = module(target, both, read), module(target, both, torch.tensor([[True, False]]))
    torch.testing.assert_close(near, -torch.nn.functional.softplus(-module.margin).view(1))
    torch.testing.assert_close(away, module(target, far, read[:, :1]))
    assert away < near - 3


def test_it_never_speaks_for_a_target_and_changes_little_before_training():
    plain, with_kinship = tiny_model(presence=True).eval(), tiny_model(presence=True, kinship=True).eval()
    with_kinship.load_state_dict(plain.state_dict(), strict=False)
    images, masks = torch.rand(3, 3, 64, 64), torch.zeros(3, 1, 64, 64)
    masks[..., 20:40, 20:40] = 1
    with torch.inference_mode():
        supports, features = plain.prepare(images, masks, ("a",)), plain.backbone.encode(images)
        before = plain.generator.prompt(features, supports).presence
        after = with_kinship.generator.prompt(features, supports).presence
        chosen = torch.tensor([[0, -1], [1, 2], [2, -1]])
        with_kinship.generator.prompt(features, supports, chosen)
        in_training = with_kinship.train().generator.prompt(features, supports).presence
    assert (after < before).all() and (before - after).max() < 0.1
    assert torch.equal(in_training, before), "augmented images are not what it was fitted on"


def test_kinship_without_presence_is_refused():
    with pytest.raises(UsageError, match="kinship is a part of presence"):
        tiny_config(kinship=True, presence=False)
