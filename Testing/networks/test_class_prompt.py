"""AutoMedSAM's generator: sizes, determinism, batches, classes and its ablations."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError  # noqa: E402
from ProxyPromptSegmentLib.networks.class_prompt.config import COMPACT, FULL, LEGACY, ClassPromptConfig  # noqa: E402
from ProxyPromptSegmentLib.networks.class_prompt.generator import ClassPromptGenerator  # noqa: E402
from ProxyPromptSegmentLib.networks.class_prompt.readout import (  # noqa: E402
    HIDDEN,
    corners_of,
    number_of_readings,
    readings,
)
from ProxyPromptSegmentLib.networks.generators import read_config  # noqa: E402
from ProxyPromptSegmentLib.networks.model import build_model  # noqa: E402
from ProxyPromptSegmentLib.networks.protocols import VocabularyGenerator
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedClasses
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass  # noqa: E402

CLASSES = (PromptClass("prostate", code="41216001"), PromptClass("optic disc"), PromptClass("polyp"))


def generator(config: ClassPromptConfig = COMPACT, **changes: object) -> ClassPromptGenerator:
    torch.manual_seed(3)
    made = ClassPromptGenerator(dataclasses.replace(config, classes=CLASSES, **changes))
    for parameter in made.parameters():  # zeros, such as those of the conditions, would hide a wiring that is missing
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def features(batch: int = 2, config: ClassPromptConfig = COMPACT) -> ImageFeatures:
    shape = (config.channels, config.grid, config.grid)
    drawn = torch.Generator().manual_seed(5)
    return ImageFeatures(
        top=torch.randn(batch, *shape, generator=drawn),
        positions=torch.randn(*shape, generator=drawn),
        valid=torch.ones(batch, config.grid, config.grid, dtype=torch.bool),
    )


def test_the_legacy_encoder_has_the_number_of_parameters_of_the_public_code():
    made = generator(LEGACY)
    assert sum(parameter.numel() for parameter in made.parameters()) == 2_218_816


def test_the_noise_of_the_legacy_encoder_has_the_variance_of_all_its_steps():
    assert generator(LEGACY).class_encoder.noise_variance() == pytest.approx(0.635, abs=5e-4)


@pytest.mark.parametrize(
    "config",
    [COMPACT, dataclasses.replace(COMPACT, corrects=True), LEGACY],
    ids=["default", "corrects the reading", "legacy"],
)
def test_the_same_image_and_class_give_the_same_bits_twice(config):
    made, seen = generator(config), features(1, config)
    asked = made.prepare_classes(["polyp"])
    torch.manual_seed(1)
    first = made.prompt(seen, asked)
    torch.manual_seed(2)
    again = made.prompt(seen, asked)
    assert torch.equal(first.sparse, again.sparse) and torch.equal(first.dense, again.dense)


def test_seeded_noise_is_the_same_for_every_image_of_a_batch():
    made, seen = generator(noise="seeded"), features(3)
    asked = made.prepare_classes(["polyp"])
    steps = torch.full((3,), 50.0)
    classes = asked.classes.expand(3, 1)
    together = made.class_encoder(seen.top, seen.positions, classes, steps=steps).dense
    alone = made.class_encoder(seen.top[2:], seen.positions, classes[2:], steps=steps[2:]).dense
    torch.testing.assert_close(together[2:], alone)


def test_noise_is_drawn_in_training_and_not_in_use():
    made, seen = generator().train(), features(4)
    classes, steps = torch.zeros(4, 1, dtype=torch.long), torch.full((4,), 80.0)
    first, second = (made.class_encoder(seen.top, seen.positions, classes, steps=steps).dense for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("config", [COMPACT, FULL, LEGACY], ids=["compact", "official", "legacy"])
def test_shapes_are_those_of_the_decoder_also_for_one_image_and_one_class(config):
    made, seen = generator(config), features(1, config)
    with torch.inference_mode():
        prompt = made.prompt(seen, made.prepare_classes(["prostate"]))
    assert prompt.sparse.shape == (1, 1, 2, config.channels)
    assert prompt.dense.shape == (1, 1, config.channels, config.grid, config.grid)
    assert prompt.names == ("prostate",)
    assert prompt.presence is None if config.legacy else prompt.presence.shape == (1, 1)


@pytest.mark.parametrize("config", [COMPACT, LEGACY], ids=["default", "legacy"])
def test_the_class_changes_the_prompt_and_its_neighbours_in_the_question_do_not(config):
    made, seen = generator(config), features(2, config)
    whole = made.prompt(seen, made.prepare_classes(["prostate", "optic disc", "polyp"]))
    alone = made.prompt(seen, made.prepare_classes(["polyp"]))
    torch.testing.assert_close(whole.dense[:, 2:], alone.dense, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(whole.sparse[:, 2:], alone.sparse, rtol=1e-3, atol=1e-4)
    assert (whole.dense[:, 0] - whole.dense[:, 1]).abs().max() > 1e-3
    assert (whole.sparse[:, 0] - whole.sparse[:, 1]).abs().max() > 1e-3


def test_images_of_a_batch_do_not_change_each_other():
    made, seen = generator(), features(3)
    asked = made.prepare_classes(["optic disc"])
    together, alone = made.prompt(seen, asked), made.prompt(seen.select(slice(1, 2)), asked)
    torch.testing.assert_close(together.dense[1:2], alone.dense, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together.presence[1:2], alone.presence, rtol=1e-3, atol=1e-4)


def test_the_reading_of_a_class_is_its_mask_prompt_until_the_encoder_corrects_it():
    made, seen = generator(), features(1)
    encoder = made.class_encoder
    with torch.no_grad():
        encoder.correction.weight.zero_()
        encoder.correction.bias.zero_()
        encoder.readout.maps.zero_()
        encoder.readout.maps[2, -1] = 3.0  # the constant
        encoder.readout.maps[2, HIDDEN + 7] = 2.0  # the seventh channel
    prompt = made.prompt(seen, made.prepare_classes(["polyp", "prostate"]))
    wanted = torch.nn.functional.interpolate(3.0 + 2.0 * seen.top[:, 7:8], scale_factor=4.0, mode="bilinear")
    torch.testing.assert_close(prompt.mask[:, :1], wanted.clamp(-8, 8))
    assert not prompt.mask[:, 1].any()


def test_readings_are_the_position_its_surroundings_the_image_and_the_place():
    top = torch.randn(1, 3, 10, 10)
    read = readings(top)[0].view(-1, 10, 10)
    assert len(read) == number_of_readings(3)
    for number, side in enumerate((3, 9), start=1):
        near = top[0, :, max(0, 2 - side // 2) : 3 + side // 2, max(0, 8 - side // 2) : 9 + side // 2]
        torch.testing.assert_close(read[3 * number : 3 * number + 3, 2, 8], near.mean((1, 2)))
    torch.testing.assert_close(read[:3], top[0])
    torch.testing.assert_close(read[9:12, 4, 4], top[0].mean((1, 2)))
    x, y = -1 + 2 * 8 / 9, -1 + 2 * 2 / 9
    torch.testing.assert_close(read[12:, 2, 8], torch.tensor([x, y, x * x, y * y, x * y, 1.0]))


def test_the_reading_alone_is_a_box_around_what_it_finds_and_a_mask_prompt():
    made = generator(diffusion=False)
    encoder, seen = made.class_encoder, features(1)
    inside = torch.zeros(1, 2, 32, 32, dtype=torch.bool)
    inside[0, 0, 4:9, 20:31] = True
    (top, left), (bottom, right) = corners_of(inside)
    assert [v.tolist() for v in (top, left, bottom, right)] == [[[4, 0]], [[20, 0]], [[8, 31]], [[30, 31]]]
    made.begin(torch.arange(5.0).view(5, 1).expand(5, 128), torch.zeros(1, 128))
    maps, presence = encoder.readout(seen.top, torch.tensor([[1]]))
    prompt = made.prompt(seen, made.prepare_classes(["optic disc"]))
    (row, column), (last_row, last_column) = corners_of(maps > 0)
    assert prompt.dense is None and torch.equal(prompt.presence, presence)
    torch.testing.assert_close(prompt.sparse[0, 0, 0], 3.0 + seen.positions[:, row[0, 0], column[0, 0]])
    torch.testing.assert_close(prompt.sparse[0, 0, 1], 4.0 + seen.positions[:, last_row[0, 0], last_column[0, 0]])
    assert (prompt.mask > 0).any() == (maps > 0).any()


def reading_of(made: ClassPromptGenerator, seen: ImageFeatures) -> torch.Tensor:
    """The mask prompt of the first class's reading alone."""
    maps, _ = made.class_encoder.readout(seen.top, torch.zeros(len(seen.top), 1, dtype=torch.long))
    return torch.nn.functional.interpolate(maps.clamp(-8, 8), scale_factor=4.0, mode="bilinear")[:, 0]


def test_an_encoder_that_corrects_begins_as_the_reading_alone_and_learns_all_three_of_its_prompts():
    reading = generator(diffusion=False)
    torch.manual_seed(1)
    made = ClassPromptGenerator(dataclasses.replace(COMPACT, classes=CLASSES, corrects=True)).eval()
    kinds = torch.randn(5, 128)
    reading.begin(kinds, torch.zeros(1, 128))
    made.load_state_dict(reading.state_dict(), strict=False)
    made.begin(kinds, torch.zeros(1, 128))
    seen, asked = features(2), made.prepare_classes([])
    before, wanted = made.prompt(seen, asked), reading.prompt(seen, asked)
    assert not before.dense.any()
    for name in ("sparse", "mask", "presence"):
        torch.testing.assert_close(getattr(before, name), getattr(wanted, name), atol=1e-5, rtol=1e-5)
    optimiser = torch.optim.Adam(made.parameters(), 1e-2)
    (before.sparse.sum() + before.mask.sum() + before.presence.sum() + before.dense.sum()).backward()
    optimiser.step()
    after = made.prompt(seen, asked)
    for name in ("sparse", "mask", "presence", "dense"):
        assert not torch.equal(getattr(after, name), getattr(before, name))
    made.class_encoder.trust.copy_(torch.tensor([0.0, 1.0, 1.0]))
    kept = made.prompt(seen, made.prepare_classes(["polyp", "prostate"]))
    for name in ("sparse", "mask", "presence", "dense"):
        torch.testing.assert_close(getattr(kept, name)[:, 0], getattr(after, name)[:, 2], atol=1e-4, rtol=1e-3)
    assert not kept.dense[:, 1].any()  # a class that is not trusted stays as it is read
    torch.testing.assert_close(kept.mask[:, 1], reading_of(made, seen), atol=1e-4, rtol=1e-3)
    with pytest.raises(UsageError, match="corrects needs"):
        dataclasses.replace(COMPACT, corrects=True, readout=False)


def test_without_a_reading_the_tokens_begin_as_corners_and_with_one_as_clicks():
    kinds, nothing = torch.arange(5.0).view(5, 1).expand(5, 128), torch.full((1, 128), 7.0)
    for readout, first, dense in ((True, [2.0, 2.0], 0.0), (False, [3.0, 4.0], 7.0)):
        made = generator(readout=readout)
        made.begin(kinds, nothing)
        assert made.class_encoder.token_out.bias.view(2, 128)[:, 0].tolist() == first
        assert float(made.class_encoder.dense_out.bias.mean()) == dense


def test_only_the_first_classes_are_drawn_and_presence_is_known_of_all():
    made, seen = generator(), features(2)
    classes = torch.tensor([[0, 2], [1, 0]])
    some, whole = made.prompt_each(seen, classes, drawn=1), made.prompt_each(seen, classes)
    assert some.dense.shape[1] == some.sparse.shape[1] == 1 and some.presence.shape == (2, 2)
    torch.testing.assert_close(some.dense, whole.dense[:, :1])
    torch.testing.assert_close(some.sparse, whole.sparse[:, :1])


@pytest.mark.parametrize(("branches", "missing"), [("sparse", "dense"), ("dense", "sparse")])
def test_a_branch_can_be_left_out(branches, missing):
    made = generator(branches=branches)
    prompt = made.prompt(features(1), made.prepare_classes(["polyp"]))
    assert getattr(prompt, missing) is None and getattr(prompt, branches) is not None


def test_the_tokens_point_with_the_positions_of_the_backbone():
    made, seen = generator(), features(1)
    asked = made.prepare_classes(["polyp"])
    moved = dataclasses.replace(seen, positions=seen.positions + 1.0)
    torch.testing.assert_close(made.prompt(moved, asked).sparse, made.prompt(seen, asked).sparse + 1.0)


def test_every_parameter_of_both_encoders_learns():
    for config in (COMPACT, LEGACY):
        made = generator(config).train()
        prompt = made.prompt(features(2, config), made.prepare_classes([]))
        loss = prompt.sparse.square().sum() + prompt.dense.square().sum()
        loss = loss if prompt.mask is None else loss + prompt.mask.square().sum()
        loss = loss if prompt.presence is None else loss + prompt.presence.square().sum()
        loss.backward()
        still = [name for name, value in made.named_parameters() if value.grad is None or not value.grad.any()]
        assert still == []


def test_it_is_a_generator_that_needs_no_support_and_survives_its_description():
    made = generator()
    assert isinstance(made, VocabularyGenerator)
    again = read_config("class", made.config.to_dict())
    assert again == made.config
    with pytest.raises(CheckpointError, match="widthz"):
        ClassPromptConfig.from_dict({**made.config.to_dict(), "widthz": 3})


def test_a_compact_sam_decodes_its_prompt():
    model = build_model("sam-compact", dataclasses.replace(COMPACT, classes=CLASSES)).eval()
    prepared = PreparedClasses(classes=torch.tensor([0, 2]), names=("prostate", "polyp"))
    with torch.inference_mode():
        decoded, prompt = model.predict(model.encode(torch.rand(1, 3, 256, 256)), prepared)
    assert decoded.logits.shape == (1, 2, 128, 128) and prompt.presence.shape == (1, 2)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"grid": 30}, "grid is 30"),
        ({"widths": (30, 64, 96)}, "widths has 30"),
        ({"embedding": 3}, "embedding is 3"),
        ({"tokens": 0}, "tokens is 0"),
        ({"legacy": True}, "legacy has 2 tokens"),
        ({"diffusion": False, "readout": False}, "without diffusion"),
    ],
)
def test_sizes_that_do_not_fit_are_rejected_with_what_is_allowed(changes, text):
    with pytest.raises(UsageError, match=text):
        dataclasses.replace(COMPACT, **changes)


def test_a_generator_without_classes_is_rejected():
    with pytest.raises(UsageError, match="at least one class"):
        ClassPromptGenerator(COMPACT)
