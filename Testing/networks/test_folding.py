"""Norms that are folded into the convolutions before them: the same embedding, with fewer steps."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0
from ProxyPromptSegmentLib.networks.folding import fold_norms


def trunk_with_statistics() -> EfficientNetLite0:
    torch.manual_seed(3)
    trunk = EfficientNetLite0().eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.3, 2.0)
    return trunk


def test_a_folded_trunk_has_no_norms_and_the_same_levels():
    trunk = trunk_with_statistics()
    folded = nn.Sequential(copy.deepcopy(trunk))  # inside of another module, as in a model
    assert fold_norms(folded)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    image = torch.rand(2, 3, 61, 64)
    with torch.inference_mode():
        for whole, mine in zip(trunk(image), folded(image), strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-4, atol=1e-4)
    assert not fold_norms(folded)


def test_a_model_without_such_a_trunk_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = copy.deepcopy(model.state_dict())
    assert not fold_norms(model)
    assert model.state_dict().keys() == before.keys()
