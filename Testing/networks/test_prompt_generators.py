"""What every prompt generator owes its callers, asked of the one for SAM, the one for SAM 2, and their ablations."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, random_features, tiny_generator
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint, save_checkpoint
from ProxyPromptSegmentLib.networks.values import PreparedSupport

PARTS = ("sparse", "dense", "memory", "presence", "prior")
NAMES = ("one", "two", "three")


def given(config, supports=2, seed=2):
    """Embedded support images, the images, and masks of three objects."""
    chance = torch.Generator().manual_seed(seed)
    images = torch.rand(supports, 3, config.image_size, config.image_size, generator=chance)
    masks = (torch.rand(supports, 3, config.image_size, config.image_size, generator=chance) > 0.6).float()
    return random_features(supports, config, seed + 1), images, masks


def assert_same(first, second, objects=slice(None), targets=slice(None), **tolerance):
    """The parts of a prompt are those of some targets and objects of another."""
    for part in PARTS:
        one, other = getattr(first, part), getattr(second, part)
        assert (one is None) == (other is None), part
        if one is not None:
            torch.testing.assert_close(one, other[targets][:, objects], **(tolerance or {"atol": 2e-5, "rtol": 1e-4}))


class GeneratorContract:
    """The tests that each prompt generator inherits; a family says how it is built and which parts it makes."""

    parts: tuple[str, ...] = ()

    @staticmethod
    def build():
        """A generator with random weights."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def generator(self):
        return self.build()

    @pytest.fixture(scope="class")
    def targets(self, generator):
        return random_features(2, generator.config, 9)

    @pytest.fixture
    def support(self, generator):
        with torch.no_grad():
            return generator.prepare(*given(generator.config), NAMES)

    @staticmethod
    def prompt(generator, *words):
        with torch.no_grad():
            return generator.prompt(*words)

    def test_a_prepared_support_has_the_promised_shapes(self, generator, support):
        config = generator.config
        positions = config.grid**2
        assert support.features.shape == (2, config.channels, positions)
        assert support.aggregated.shape == (2, 3, config.channels, positions)
        assert support.occupancy.shape == (2, 3, positions)
        assert support.valid.shape == (2, positions) and support.valid.dtype == torch.bool
        assert support.names == NAMES and 0 <= support.occupancy.min() <= support.occupancy.max() <= 1

    def test_a_prompt_has_its_parts_for_each_target_and_object(self, generator, targets, support):
        config, prompt = generator.config, self.prompt(generator, targets, support)
        assert {part for part in PARTS if getattr(prompt, part) is not None} == set(self.parts)
        for tokens in (prompt.sparse, prompt.memory):
            assert tokens is None or (tokens.shape[:2], tokens.shape[3]) == ((2, 3), config.channels)
        assert prompt.dense is None or prompt.dense.shape == (2, 3, config.channels, config.grid, config.grid)
        assert prompt.presence is None or prompt.presence.shape == (2, 3)
        assert prompt.prior is None or prompt.prior.shape == (2, 3, config.grid, config.grid)
        assert prompt.names == NAMES
        assert all(getattr(prompt, part).isfinite().all() for part in self.parts)
        first = getattr(prompt, self.parts[0])
        assert (first[:, 0] - first[:, 1]).abs().max() > 1e-3 and (first[0] - first[1]).abs().max() > 1e-4

    def test_the_same_question_gets_the_same_answer(self, generator, targets, support):
        with torch.no_grad():
            again = generator.prepare(*given(generator.config), NAMES)
        first, second = self.prompt(generator, targets, support), self.prompt(generator, targets, again)
        assert_same(first, second, atol=0, rtol=0)

    def test_targets_and_objects_together_are_each_alone(self, generator, targets, support):
        together = self.prompt(generator, targets, support)
        for n, name in enumerate(NAMES):
            alone = self.prompt(generator, targets, support.objects([n]))
            assert alone.names == (name,)
            assert_same(alone, together, [n])
        for b in range(2):
            assert_same(self.prompt(generator, targets.select([b]), support), together, targets=[b])

    def test_supports_prepared_one_after_the_other_in_any_order_are_those_prepared_together(
        self, generator, targets, support
    ):
        features, images, masks = given(generator.config)
        with torch.no_grad():
            parts = [generator.prepare(features.select([k]), images[[k]], masks[[k]], NAMES) for k in (1, 0)]
        joined = PreparedSupport.concatenate(parts)
        assert joined.names == NAMES
        assert_same(self.prompt(generator, targets, joined), self.prompt(generator, targets, support))

    def test_a_target_reads_the_supports_that_were_chosen_for_it_alone(self, generator, targets):
        with torch.no_grad():
            support = generator.prepare(*given(generator.config, supports=3), NAMES)
        support.valid[1, 40:] = False
        chosen = torch.tensor([[0, 1], [2, 1]])
        together = self.prompt(generator, targets, support, chosen)
        for b in range(2):
            alone = self.prompt(generator, targets.select([b]), support.supports(chosen[b].tolist()))
            assert_same(alone, together, targets=[b])
        everything = getattr(self.prompt(generator, targets, support), self.parts[0])
        assert (everything - getattr(together, self.parts[0])).abs().max() > 1e-4

    def test_what_was_read_is_a_share_of_each_support_position_and_none_of_padding(self, generator, targets, support):
        support.valid[1, 24:] = False
        positions = torch.tensor([0, 5, 17])
        with torch.no_grad():
            weights = generator.why(targets.select([0]), support, positions)
        grid = generator.config.grid
        assert weights.shape == (3, 2, grid, grid) and weights.min() >= 0
        torch.testing.assert_close(weights.sum(dim=(1, 2, 3)).double(), torch.ones(3).double(), atol=1e-5, rtol=0)
        assert weights[:, 1].flatten(1)[:, 24:].sum() == 0

    def test_written_and_read_it_prompts_the_same(self, generator, targets, support, tmp_path):
        save_checkpoint(tmp_path / "generator.safetensors", generator.state_dict(), generator.config.to_dict())
        tensors, written = read_checkpoint(tmp_path / "generator.safetensors")
        config = type(generator.config).from_dict({k: written[k] for k in generator.config.to_dict()})
        assert config == generator.config
        torch.manual_seed(7)
        other = type(generator)(config).eval()
        other.load_state_dict(tensors)
        with torch.no_grad():
            again = other.prepare(*given(config), NAMES)
        expected = self.prompt(generator, targets, support)
        assert_same(self.prompt(other, targets, again), expected, atol=0, rtol=0)


class TestForSam(GeneratorContract):
    """The compact choices: tokens, a dense prompt, presence and the prior."""

    parts = ("sparse", "dense", "presence", "prior")

    @staticmethod
    def build():
        return tiny_generator(**EVERYTHING)


class TestOfThePaper(GeneratorContract):
    """Tokens alone, halved by a linear layer."""

    parts = ("sparse",)

    @staticmethod
    def build():
        return tiny_generator(reduce="token_linear")


class TestForSam2(GeneratorContract):
    """Tokens for the memory attention and a dense prompt."""

    parts = ("memory", "dense", "prior")

    @staticmethod
    def build():
        return tiny_generator(**{**EVERYTHING, "prompt": "memory_and_dense", "ccm_blocks": 2, "presence": False})


class TestWithoutAMap(GeneratorContract):
    """The ablation that reads the same place of every support."""

    parts = ("sparse", "dense", "presence", "prior")

    @staticmethod
    def build():
        return tiny_generator(**{**EVERYTHING, "selection": "mean"})


class TestWithoutColorization(GeneratorContract):
    """The ablation whose tokens are the pooled contextual embedding."""

    parts = ("sparse",)

    @staticmethod
    def build():
        return tiny_generator(ccm=False)


def test_a_prompt_has_no_other_parts():
    from ProxyPromptSegmentLib.networks.values import Prompt

    assert {item.name for item in dataclasses.fields(Prompt)} == {*PARTS, "mask", "names"}
