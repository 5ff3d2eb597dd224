"""Proxy prompt tokens on their way into SAM 2's memory attention: width, pieces, positions, order and neighbours."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.backbones.memory_bridge import BRIDGES, MemoryBridge
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT_MEMORY, PRESETS, ProxyPromptConfig
from ProxyPromptSegmentLib.networks.values import ImageFeatures, Prompt
from sam2_package import (
    CHANNELS,
    GRID,
    NARROW,
    TOKENS,
    assert_same,
    bank,
    clouds,
    decoded,
    lively_backbone,
    memory_attention_calls,
    proxy,
    without_weights,
)

PLACES = GRID * GRID
MEMORY_PRESETS = ("paper-memory", "robust-memory", "compact-memory")


@pytest.fixture(scope="module")
def sine():
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    return PositionEmbeddingSine(num_pos_feats=64)


@pytest.fixture(scope="module")
def backbone():
    return lively_backbone()


@pytest.fixture(scope="module")
def features(backbone):
    with torch.inference_mode():
        return backbone.encode(clouds(1))


def parameters_of(module):
    return {name: parameter.numel() for name, parameter in module.named_parameters()}


def moved(bridge):
    """With a position that is not zero any more."""
    torch.nn.init.normal_(bridge.proxy_position, generator=torch.Generator().manual_seed(3))
    return bridge


def test_linear_has_one_token_each_and_the_published_number_of_parameters(sine):
    bridge = MemoryBridge(256, 64)
    counts = parameters_of(bridge)
    assert counts.pop("proxy_position") == 64
    assert counts == {"project.0.weight": 256, "project.0.bias": 256, "project.1.weight": 16_384, "project.1.bias": 64}
    assert counts["project.1.weight"] + counts["project.1.bias"] == 16_448
    memory, positions = bridge(torch.randn(2, 256, 256), sine)
    assert memory.shape == positions.shape == (2, 256, 64)


def test_split4_has_four_tokens_each_and_no_parameter_but_the_position(sine):
    bridge = MemoryBridge(256, 64, "split4")
    assert parameters_of(bridge) == {"proxy_position": 64}
    memory, positions = bridge(torch.randn(2, 256, 256), sine)
    assert memory.shape == positions.shape == (2, 1024, 64)


def test_linear_norms_and_projects_each_token_alone(sine):
    torch.manual_seed(0)
    bridge, tokens = MemoryBridge(256, 64), torch.randn(2, 9, 256)
    memory, _ = bridge(tokens, sine)
    norm, linear = bridge.project
    centred = tokens - tokens.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(memory, normed @ linear.weight.T + linear.bias, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(bridge(100 * tokens + 7, sine)[0], memory, atol=1e-3, rtol=1e-3)


def test_split4_cuts_a_token_as_the_package_cuts_an_object_pointer(sine):
    tokens = torch.randn(2, 5, 256)
    memory, _ = MemoryBridge(256, 64, "split4")(tokens, sine)
    # as SAM2Base._prepare_memory_conditioned_features does with pointers (length, batch, channels)
    pointers = tokens.transpose(0, 1).reshape(-1, 2, 4, 64).permute(0, 2, 1, 3).flatten(0, 1)
    assert torch.equal(memory.transpose(0, 1), pointers)
    assert torch.equal(memory[1, 4 * 3 + 2], tokens[1, 3, 128:192])


@pytest.mark.parametrize(("channels", "memory_channels", "pieces"), [(128, 32, 4), (96, 48, 2), (64, 64, 1)])
def test_split4_cuts_into_as_many_pieces_as_the_widths_say(channels, memory_channels, pieces):
    bridge = MemoryBridge(channels, memory_channels, "split4")
    assert bridge(torch.randn(1, 6, channels), None)[0].shape == (1, 6 * pieces, memory_channels)


@pytest.mark.parametrize("kind", BRIDGES)
def test_without_a_grid_each_token_has_the_learned_position_alone_which_starts_at_zero(sine, kind):
    bridge = MemoryBridge(256, 64, kind)
    assert not bridge(torch.randn(2, 16, 256), sine)[1].any()
    _, positions = moved(bridge)(torch.randn(2, 16, 256), sine)
    assert torch.equal(positions, bridge.proxy_position.expand(2, positions.shape[1], 64))


@pytest.mark.parametrize(("kind", "pieces"), [("linear", 1), ("split4", 4)])
def test_tokens_on_a_grid_have_the_packages_sine_encoding_row_by_row(sine, kind, pieces):
    bridge = moved(MemoryBridge(256, 64, kind, grid_positions=True))
    _, positions = bridge(torch.randn(2, 256, 256), sine)
    encoding = sine(torch.zeros(1, 64, 16, 16))[0]
    for row, column in ((0, 0), (0, 5), (3, 0), (15, 14)):
        for piece in range(pieces):
            found = positions[:, (16 * row + column) * pieces + piece]
            expected = encoding[:, row, column] + bridge.proxy_position[0, 0]
            torch.testing.assert_close(found, expected.expand(2, -1))


def test_tokens_that_fill_no_square_have_no_grid(sine):
    assert not MemoryBridge(256, 64, grid_positions=True)(torch.randn(1, 15, 256), sine)[1].any()


@pytest.mark.parametrize("kind", BRIDGES)
def test_tokens_and_every_parameter_get_gradients(sine, kind):
    bridge, tokens = MemoryBridge(256, 64, kind, grid_positions=True), torch.randn(1, 16, 256, requires_grad=True)
    memory, positions = bridge(tokens, sine)
    (memory.square().sum() + positions.sin().sum()).backward()
    for tensor in (tokens, *bridge.parameters()):
        assert tensor.grad.abs().max() > 0


def test_an_unknown_kind_and_widths_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="the bridge is 'conv'; allowed are linear, split4"):
        MemoryBridge(256, 64, "conv")
    with pytest.raises(ValueError, match="250 channels cannot be cut into pieces of 64"):
        MemoryBridge(250, 64, "split4")
    assert MemoryBridge(250, 64).project is not None


def test_the_presets_for_a_memory_are_those_of_images_with_another_way_in():
    for name in PRESETS:
        assert PRESETS[name].for_memory == name.endswith(("-memory", "-shared"))
    for name in ("paper", "robust"):
        changed = replace(PRESETS[name], prompt="memory")
        assert PRESETS[f"{name}-memory"] == changed
    # The compact one keeps an 8 x 8 grid of tokens; SAM 2's decoder has a presence score of its own.
    assert (COMPACT_MEMORY.prompt, COMPACT_MEMORY.presence) == ("memory_and_dense", False)


@pytest.mark.parametrize("name", MEMORY_PRESETS)
def test_a_configuration_comes_back_from_a_checkpoint(name):
    assert ProxyPromptConfig.from_dict(PRESETS[name].to_dict()) == PRESETS[name]


def test_a_checkpoint_from_before_sam2_has_the_first_bridge():
    older = PRESETS["compact"].to_dict()
    del older["memory_bridge"]
    assert ProxyPromptConfig.from_dict(older) == PRESETS["compact"]


def test_other_values_are_refused_with_the_allowed_ones():
    with pytest.raises(UsageError, match="memory_bridge is 'conv'; allowed are linear, split4"):
        ProxyPromptConfig(memory_bridge="conv")
    with pytest.raises(UsageError, match="prompt is 'video'; allowed are .*memory_and_dense, memory_and_both"):
        ProxyPromptConfig(prompt="video")


@pytest.mark.parametrize("name", MEMORY_PRESETS)
def test_sam_has_no_memory_to_speak_to(name):
    with pytest.raises(UsageError, match="a memory, which sam-compact does not have; choose a SAM 2"):
        build_model("sam-compact", name)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no preset 'memory'; choose one of paper, .*compact-memory"):
        build_model("sam2-compact", "memory")


@pytest.mark.parametrize(
    ("changes", "kind", "grid"),
    [
        ({}, "linear", True),
        ({"memory_bridge": "split4"}, "split4", True),
        ({"reduce": "token_linear"}, "linear", False),
    ],
)
def test_a_model_has_the_bridge_of_its_configuration_and_a_grid_only_where_tokens_are_merged_in_pairs(
    changes, kind, grid
):
    made = build_model("sam2-compact", replace(COMPACT_MEMORY, **changes))
    assert (made.backbone.bridge.kind, made.backbone.bridge.grid_positions) == (kind, grid)
    assert made.backbone.bridge.memory_channels == 32


@pytest.mark.parametrize(("preset", "prompt"), [(None, "memory_and_dense"), ("paper-memory", "memory")])
def test_the_compact_model_takes_a_preset_of_another_size_at_its_own(preset, prompt):
    made = build_model("sam2-compact", preset)
    config = made.generator.config
    assert (config.image_size, config.grid, config.channels, config.prompt) == (128, 16, 128, prompt)
    assert config.vim_dim == COMPACT_MEMORY.vim_dim
    assert made.describe()["generator"] == config.to_dict()


def test_an_official_sam2_speaks_to_the_memory_by_default():
    with without_weights():
        made = build_model("sam2.1-hiera-tiny")
    assert made.generator.config == PRESETS["robust-memory"]
    assert made.lora_rank == 4


# Proxy prompt tokens in the memory attention.


@pytest.mark.parametrize(("kind", "tokens"), [("linear", TOKENS), ("split4", 4 * TOKENS)])
def test_proxy_tokens_lie_between_spatial_memories_and_pointers_and_are_not_rotated(kind, tokens):
    backbone = lively_backbone(bridge=kind)
    torch.nn.init.normal_(backbone.bridge.proxy_position)
    network = backbone.sam2
    memories, prompt = bank([0, 1, 2], conditioning=[0]), proxy()
    frame = ImageFeatures(
        top=torch.randn(1, CHANNELS, GRID, GRID), positions=backbone.positions(), valid=torch.ones(1, GRID, GRID) > 0
    )
    with torch.no_grad(), memory_attention_calls(backbone) as calls:
        image = backbone.condition(frame, prompt, memories, 3, 1)
    assert image.shape == (1, CHANNELS, GRID, GRID)
    [seen] = calls
    assert seen["curr"].shape == seen["curr_pos"].shape == (PLACES, 1, CHANNELS)
    pieces = CHANNELS // NARROW
    assert len(seen["memory"]) == len(seen["memory_pos"]) == 3 * PLACES + tokens + 3 * pieces
    assert seen["num_obj_ptr_tokens"] == tokens + 3 * pieces
    spatial, middle, pointers = torch.split(seen["memory"][:, 0], [3 * PLACES, tokens, 3 * pieces])
    for number, memory in enumerate(memories):
        part = spatial[number * PLACES : (number + 1) * PLACES]
        assert torch.equal(part, memory.spatial[0].flatten(1).T)
    expected, position = backbone.bridge(prompt.memory[0], network.memory_encoder.position_encoding)
    torch.testing.assert_close(middle, expected[0])
    nearest_first = (memories[0], memories[2], memories[1])
    assert torch.equal(pointers, torch.cat([memory.pointer.reshape(pieces, NARROW) for memory in nearest_first]))
    # the time of the proxy prompt is that of a given mask, whichever frame it is
    place, between, _ = torch.split(seen["memory_pos"][:, 0], [3 * PLACES, tokens, 3 * pieces])
    times = network.maskmem_tpos_enc[:, 0, 0]
    torch.testing.assert_close(between, position[0] + times[6])
    sine = network.memory_encoder.position_encoding(memories[0].spatial)[0].flatten(1).T
    for number, time in enumerate((times[6], times[1], times[0])):  # given; two frames ago; the frame before
        torch.testing.assert_close(place[number * PLACES : (number + 1) * PLACES], sine + time)


def test_only_a_model_that_merges_pairs_gives_its_tokens_places():
    plain = lively_backbone()
    placed = lively_backbone(grid_positions=True)
    prompt, frame = proxy(), torch.randn(1, CHANNELS, GRID, GRID)
    features = ImageFeatures(top=frame, positions=plain.positions(), valid=torch.ones(1, GRID, GRID) > 0)
    found = []
    for made in (plain, placed):
        with torch.no_grad(), memory_attention_calls(made) as calls:
            made.condition(features, prompt, (), 0, 1)
        found.append(calls[0]["memory_pos"][:, 0] - made.sam2.maskmem_tpos_enc[6, 0])
    torch.testing.assert_close(found[0], torch.zeros(TOKENS, NARROW), atol=1e-5, rtol=0)
    sine = placed.sam2.memory_encoder.position_encoding(torch.zeros(1, NARROW, 8, 8))[0].flatten(1).T
    torch.testing.assert_close(found[1], sine, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [[], [0, 1]])
def test_the_order_of_tokens_without_places_does_not_matter_as_rotation_would_make_it(frames):
    backbone, order = lively_backbone(), torch.randperm(TOKENS, generator=torch.Generator().manual_seed(0))
    frame = ImageFeatures(
        top=torch.randn(1, CHANNELS, GRID, GRID), positions=backbone.positions(), valid=torch.ones(1, GRID, GRID) > 0
    )
    prompt = proxy()
    shuffled = Prompt(memory=prompt.memory[:, :, order])
    with torch.no_grad():
        one = backbone.condition(frame, prompt, bank(frames), 2, 1)
        other = backbone.condition(frame, shuffled, bank(frames), 2, 1)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_rotating_the_tokens_would_fail_or_change_the_answer(features):
    frame = features.select([0])
    linear, split = lively_backbone(), lively_backbone(bridge="split4")
    for backbone, frames in ((linear, []), (linear, [0])):
        with torch.inference_mode(), memory_attention_calls(backbone) as calls:
            backbone.condition(frame, proxy(), bank(frames), 1, 1)
            with pytest.raises(RuntimeError):  # 64 tokens are no multiple of the 16 x 16 angles
                backbone.sam2.memory_attention(**{**calls[0], "num_obj_ptr_tokens": 0})
    with torch.inference_mode(), memory_attention_calls(split) as calls:  # 4 x 64 are one, and nobody would notice
        image = split.condition(frame, proxy(), (), 1, 1)
        rotated = split.sam2.memory_attention(**{**calls[0], "num_obj_ptr_tokens": 0})
    assert (rotated.permute(1, 2, 0).unflatten(-1, (GRID, GRID)) - image).abs().max() > 1e-2


def test_the_first_frame_with_a_proxy_prompt_goes_through_the_memory_attention(backbone, features):
    frame = features.select([0])
    with torch.inference_mode(), memory_attention_calls(backbone) as calls:
        prompted = backbone.condition(frame, proxy(), (), 0, 1)
        assert len(calls) == 1
        alone = backbone.condition(frame, Prompt(), (), 0, 1)
        assert len(calls) == 1
    torch.testing.assert_close(alone, frame.top + backbone.sam2.no_mem_embed.reshape(1, -1, 1, 1))
    assert (prompted - alone).abs().max() > 1e-2


# How far back a frame looks.


def attention_tokens(backbone, features, memories, frame):
    """How many spatial memories and how many pointers are read."""
    with torch.inference_mode(), memory_attention_calls(backbone) as calls:
        backbone.decode(features.select([0]), Prompt(), memories, frame)
    if not calls:
        return 0, 0
    pointers = calls[0]["num_obj_ptr_tokens"]
    return (len(calls[0]["memory"]) - pointers) // PLACES, pointers // (CHANNELS // NARROW)


def test_six_spatial_memories_and_fifteen_pointers_are_read_and_given_masks_from_any_distance(backbone, features):
    assert attention_tokens(backbone, features, bank(range(20)), 20) == (6, 15)
    assert attention_tokens(backbone, features, bank(range(3)), 3) == (3, 3)
    assert attention_tokens(backbone, features, bank(range(20), conditioning=[0]), 20) == (7, 16)
    assert attention_tokens(backbone, features, bank([0], conditioning=[0]), 500) == (1, 1)
    assert attention_tokens(backbone, features, bank([13]), 20) == (0, 1)
    assert attention_tokens(backbone, features, bank([14]), 20) == (1, 1)
    assert attention_tokens(backbone, features, bank([4]), 20) == (0, 0)
    assert attention_tokens(backbone, features, bank([5]), 20) == (0, 1)


@pytest.mark.parametrize("conditioning", [[], [21]])
def test_this_frame_and_later_ones_are_not_read(backbone, features, conditioning):
    past = bank(range(3))
    later = bank([20, 21, 22], conditioning=conditioning, seed=9)
    frame = features.select([0])
    with_later = decoded(backbone, frame, proxy(), [*past, *later], 3)
    assert_same(with_later, decoded(backbone, frame, proxy(), past, 3), atol=0, rtol=0)
    assert attention_tokens(backbone, features, later[:1], 20) == (0, 0)


def test_a_spatial_memory_out_of_reach_changes_nothing_and_its_pointer_does(backbone, features):
    memories, frame = bank(range(14)), features.select([0])
    before = decoded(backbone, frame, proxy(), memories, 14)
    for number, (spatial_read, pointer_read) in {7: (False, True), 8: (True, True), 0: (False, True)}.items():
        far = memories[number]
        for changed, read in (
            (replace(far, spatial=far.spatial * 3), spatial_read),
            (replace(far, pointer=far.pointer * 3), pointer_read),
        ):
            other = [*memories[:number], changed, *memories[number + 1 :]]
            after = decoded(backbone, frame, proxy(), other, 14)
            assert torch.equal(after.logits, before.logits) != read


def test_the_order_in_which_memories_are_given_does_not_matter(backbone, features):
    memories, frame = bank(range(9), conditioning=[2]), features.select([0])
    one = decoded(backbone, frame, proxy(), memories, 9)
    assert_same(decoded(backbone, frame, proxy(), memories[::-1], 9), one)
