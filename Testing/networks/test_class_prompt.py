"""AutoMedSAM's generator: sizes, determinism, batches, classes and its ablations."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError  # noqa: E402
from ProxyPromptSegmentLib.networks.class_prompt.config import COMPACT, FULL, LEGACY, ClassPromptConfig  # noqa: E402
from ProxyPromptSegmentLib.networks.class_prompt.generator import ClassPromptGenerator  # noqa: E402
from ProxyPromptSegmentLib.networks.generators import read_config  # noqa: E402
from ProxyPromptSegmentLib.networks.model import build_model  # noqa: E402
from ProxyPromptSegmentLib.networks.protocols import ImageFeatures, PreparedClasses, VocabularyGenerator  # noqa: E402
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


@pytest.mark.parametrize("config", [COMPACT, LEGACY], ids=["default", "legacy"])
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
    together = made.class_encoder(seen.top, seen.positions, classes, steps=steps)[1]
    alone = made.class_encoder(seen.top[2:], seen.positions, classes[2:], steps=steps[2:])[1]
    torch.testing.assert_close(together[2:], alone)


def test_noise_is_drawn_in_training_and_not_in_use():
    made, seen = generator().train(), features(4)
    classes, steps = torch.zeros(4, 1, dtype=torch.long), torch.full((4,), 80.0)
    first, second = (made.class_encoder(seen.top, seen.positions, classes, steps=steps)[1] for _ in range(2))
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
    ],
)
def test_sizes_that_do_not_fit_are_rejected_with_what_is_allowed(changes, text):
    with pytest.raises(UsageError, match=text):
        dataclasses.replace(COMPACT, **changes)


def test_a_generator_without_classes_is_rejected():
    with pytest.raises(UsageError, match="at least one class"):
        ClassPromptGenerator(COMPACT)
