"""What saves memory changes no gradient, except where that is asked for: recomputing, accumulating, freezing."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.training.episodes import Episode
from ProxyPromptSegmentLib.training.recipe import ComputingRecipe, Recipe
from ProxyPromptSegmentLib.training.recomputing import encoder_blocks
from ProxyPromptSegmentLib.training.step import episode_loss
from small_official import small_vit_model


@pytest.fixture(scope="module")
def model():
    return small_vit_model()


@pytest.fixture(scope="module")
def episode():
    chance = torch.Generator().manual_seed(2)
    masks = torch.zeros(4, 2, 64, 64)
    for n in range(4):
        masks[n, 0, 8 + n : 28 + n, 10:40], masks[n, 1, 36:50, 20 + n : 50] = 1, 1
    return Episode(
        images=torch.rand(4, 3, 64, 64, generator=chance),
        masks=masks,
        truth=masks[:1].clone(),
        chosen=torch.tensor([[1, 2, 3]]),
        related=torch.ones(1, dtype=torch.bool),
        apart=True,
    )


def gradients(model, episode, **computing):
    model.zero_grad(set_to_none=True)
    loss, _ = episode_loss(model, episode, Recipe(name="x", computing=ComputingRecipe(**computing)))
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def saved_bytes(model, episode, **computing):
    """The bytes that a forward pass keeps for the backward pass, each storage once, without the parameters."""
    kept, own = {}, {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        episode_loss(model, episode, Recipe(name="x", computing=ComputingRecipe(**computing)))
    return sum(size for size, _ in kept.values())


def distance(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_recomputing_keeps_a_fraction_and_changes_no_gradient(model, episode):
    assert len(encoder_blocks(model.backbone)) == 3
    plain, again = gradients(model, episode), gradients(model, episode, recompute=True)
    assert distance(plain, again) < 1e-5 * max(float(g.abs().max()) for g in plain.values())
    assert saved_bytes(model, episode, recompute=True) < 0.5 * saved_bytes(model, episode)
    assert all("forward" not in vars(block) for block in encoder_blocks(model.backbone))


def test_supports_may_have_features_without_gradient_while_everything_else_still_learns(model, episode):
    plain, frozen = gradients(model, episode), gradients(model, episode, frozen_supports=True)
    assert plain.keys() == frozen.keys()
    name = next(n for n in plain if "image_encoder" in n and "lora_B" in n)
    assert not torch.allclose(plain[name], frozen[name])
    alike = next(n for n in plain if n.endswith("contextual_encoder.patch_embed.weight") or "patch" in n)
    assert torch.allclose(plain[alike], frozen[alike], atol=1e-6)
    assert saved_bytes(model, episode, frozen_supports=True) < saved_bytes(model, episode)
    both = gradients(model, episode, frozen_supports=True, recompute=True)
    assert distance(frozen, both) < 1e-5 * max(float(g.abs().max()) for g in frozen.values())


def test_the_contextual_encoder_may_learn_through_some_supports_alone(model, episode):
    name = "generator.bridge.block1.conv1.weight"
    whole = gradients(model, episode)[name]
    some = gradients(model, episode, learning_supports=1)[name]
    assert some.abs().max() > 0 and not torch.allclose(whole, some)
    one = dataclasses.replace(episode, chosen=torch.tensor([[1]]))
    assert not torch.allclose(gradients(model, one)[name], some)  # the others are read all the same
    assert torch.allclose(gradients(model, episode, learning_supports=3)[name], whole, atol=1e-6)


def test_half_precision_computes_about_the_same_and_leaves_the_weights_alone(model, episode):
    plain, half = gradients(model, episode), gradients(model, episode, precision="bfloat16", recompute=True)
    assert all(p.dtype == torch.float32 for p in model.parameters()) and plain.keys() == half.keys()
    one, other = (torch.cat([g.flatten() for g in found.values()]) for found in (plain, half))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.98
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("ranks", "wanted"), [((2, 8), {2, 8}), ((0, 4), {4}), ((4, 0), {4})])
def test_encoder_and_decoder_have_their_own_ranks_which_the_description_rebuilds(ranks, wanted):
    with torch.device("meta"):
        made = build_model("sam-vit-b", "robust", ranks)
        again = build_model("sam-vit-b", made.generator.config, list(made.describe()["lora_rank"]))
    found = {}
    for name, parameter in made.backbone.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if "lora_A" in name:
            found.setdefault("encoder" if "image_encoder" in name else "decoder", set()).add(parameter.shape[0])
    assert set.union(*found.values()) == wanted
    assert found.get("encoder", {0}) == {ranks[0]} and found.get("decoder", {0}) == {ranks[1]}
    assert [p.shape for p in again.parameters()] == [p.shape for p in made.parameters()]
