"""What every backbone owes its callers, asked of each architecture at a size for tests."""

from __future__ import annotations

from dataclasses import fields
from importlib import resources
from unittest.mock import patch

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_backbone
from ProxyPromptSegmentLib.networks.backbones import sam, sam2_architectures
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint, save_checkpoint
from ProxyPromptSegmentLib.networks.protocols import has_memory
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, Prompt

CLOSE = {"atol": 1e-4, "rtol": 1e-3}
TOKENS = 5


def pictures(backbone, count, seed=0):
    """Smooth random images that differ from each other."""
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=backbone.image_size, mode="bilinear")


def random_prompt(backbone, batch, objects, kinds, seed=1):
    chance = torch.Generator().manual_seed(seed)
    shapes = {
        "sparse": (TOKENS, backbone.channels),
        "dense": (backbone.channels, backbone.grid, backbone.grid),
        "memory": (TOKENS, backbone.channels),
    }
    return Prompt(**{kind: torch.randn(batch, objects, *shapes[kind], generator=chance) for kind in kinds})


def alone(thing, b, n):
    """What a prompt or an answer says of one target and one object."""
    parts = {item.name: getattr(thing, item.name) for item in fields(thing) if item.name != "names"}
    return type(thing)(**{k: None if v is None else v[b : b + 1, n : n + 1] for k, v in parts.items()})


def assert_same(first, second, **tolerance):
    for item in fields(first):
        one, other = getattr(first, item.name), getattr(second, item.name)
        assert (one is None) == (other is None), item.name
        if one is not None:
            torch.testing.assert_close(one, other, **(tolerance or CLOSE))


class BackboneContract:
    """The tests that each backbone inherits; a family says how it is built and what it can do."""

    remembers = False
    kinds = ("sparse", "dense")

    @staticmethod
    def build():
        """A backbone with random weights."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def backbone(self):
        torch.manual_seed(0)
        return self.build().eval()

    @pytest.fixture(scope="class")
    def features(self, backbone):
        with torch.inference_mode():
            return backbone.encode(pictures(backbone, 2))

    def test_an_embedding_has_the_promised_shapes(self, backbone, features):
        channels, grid = backbone.channels, backbone.grid
        assert features.top.shape == (2, channels, grid, grid)
        assert features.positions.shape == (channels, grid, grid)
        assert features.valid.shape == (2, grid, grid) and features.valid.dtype == torch.bool
        assert features.valid.all() and features.top.isfinite().all()
        assert isinstance(backbone.name, str) and isinstance(backbone.keeps_aspect, bool)
        assert backbone.image_size % grid == 0

    def test_the_embedding_of_an_image_does_not_depend_on_its_batch(self, backbone, features):
        with torch.inference_mode():
            for b in range(2):
                single = backbone.encode(pictures(backbone, 2)[b : b + 1])
                torch.testing.assert_close(single.top[0], features.top[b], **CLOSE)
                for level, mine in zip(features.high_res or (), single.high_res or (), strict=True):
                    torch.testing.assert_close(mine[0], level[b], **CLOSE)
        assert not torch.allclose(features.top[0], features.top[1], **CLOSE)
        joined = ImageFeatures.concatenate([features.select([0]), features.select(slice(1, 2))])
        assert_same(joined, features, atol=0, rtol=0)

    def test_what_is_no_padding_is_handed_on(self, backbone):
        valid = torch.ones(1, backbone.grid, backbone.grid, dtype=torch.bool)
        valid[:, backbone.grid // 2 :] = False
        with torch.inference_mode():
            assert torch.equal(backbone.encode(pictures(backbone, 1), valid).valid, valid)

    def test_an_answer_has_a_mask_and_an_estimate_for_each_target_and_object(self, backbone, features):
        answer = self.decoded(backbone, features, random_prompt(backbone, 2, 3, self.kinds))
        side = answer.logits.shape[-1]
        assert isinstance(answer, Decoded) and answer.logits.shape == (2, 3, side, side) and side >= backbone.grid
        assert answer.quality.shape == (2, 3)
        assert answer.logits.isfinite().all() and answer.quality.isfinite().all()
        assert answer.presence is None or answer.presence.shape == (2, 3)
        assert (answer.pointer is not None) == self.remembers

    def test_targets_and_objects_together_are_each_pair_alone(self, backbone, features):
        for kinds in [(kind,) for kind in self.kinds] + [self.kinds]:
            prompt = random_prompt(backbone, 2, 2, kinds)
            together = self.decoded(backbone, features, prompt)
            for b in range(2):
                for n in range(2):
                    single = self.decoded(backbone, features.select([b]), alone(prompt, b, n))
                    assert_same(alone(together, b, n), single)
            assert (together.logits[0] - together.logits[1]).abs().max() > 1e-3
            assert (together.logits[:, 0] - together.logits[:, 1]).abs().max() > 1e-3

    def test_the_same_question_gets_the_same_answer(self, backbone):
        with torch.inference_mode():
            first, again = (backbone.encode(pictures(backbone, 1)) for _ in range(2))
        assert_same(first, again, atol=0, rtol=0)
        prompt = random_prompt(backbone, 1, 1, self.kinds)
        assert_same(self.decoded(backbone, first, prompt), self.decoded(backbone, again, prompt), atol=0, rtol=0)

    def test_a_click_becomes_tokens_that_join_a_prompt(self, backbone, features):
        points, labels = torch.tensor([[[10.0, 20.0], [40.0, 50.0]]]), torch.tensor([[1, 0]], dtype=torch.int32)
        with torch.inference_mode():
            tokens = backbone.prompt_points(points, labels)
            assert tokens.shape == (1, 3, backbone.channels)
            prompt = random_prompt(backbone, 1, 1, self.kinds)
            joined = prompt.with_points(tokens.unsqueeze(0))
        before = 0 if prompt.sparse is None else TOKENS
        assert joined.sparse.shape == (1, 1, before + 3, backbone.channels)
        single = features.select([0])
        moved = self.decoded(backbone, single, joined).logits - self.decoded(backbone, single, prompt).logits
        assert moved.abs().max() > 1e-4

    def test_written_and_read_it_answers_the_same(self, backbone, features, tmp_path):
        save_checkpoint(tmp_path / "backbone.safetensors", backbone.state_dict(), {})
        torch.manual_seed(7)
        other = self.build().eval()
        prompt = random_prompt(backbone, 2, 1, self.kinds)
        expected = self.decoded(backbone, features, prompt)
        assert not torch.equal(self.decoded(other, features, prompt).logits, expected.logits)
        other.load_state_dict(read_checkpoint(tmp_path / "backbone.safetensors")[0])
        with torch.inference_mode():
            assert_same(other.encode(pictures(other, 2)), features, atol=0, rtol=0)
        assert_same(self.decoded(other, features, prompt), expected, atol=0, rtol=0)

    def test_whether_it_remembers_is_known_in_one_way(self, backbone, features):
        assert has_memory(backbone) == self.remembers
        if not self.remembers:
            return
        prompt = random_prompt(backbone, 1, 2, self.kinds)
        first, second = features.select([0]), features.select([1])
        masks = torch.zeros(1, 2, backbone.image_size, backbone.image_size)
        masks[:, :, 10:40, 10:40] = 1
        with torch.inference_mode():
            answer = backbone.decode(first, prompt)
            predicted, given = backbone.remember(first, answer, 0), backbone.remember_mask(first, masks, 0)
            assert not predicted.conditioning and given.conditioning and predicted.frame == given.frame == 0
            for memory in (predicted, given):
                assert memory.spatial.shape[0] == 2 and memory.spatial.shape[-2:] == (backbone.grid, backbone.grid)
                assert memory.pointer.shape == (2, backbone.channels)
            without, *read = (backbone.decode(second, prompt, known, 1) for known in ([], [predicted], [given]))
        for one in read:
            assert (one.logits - without.logits).abs().max() > 1e-5
        assert backbone.memories > 0 and backbone.pointers > 0

    @staticmethod
    def decoded(backbone, features, prompt):
        with torch.inference_mode():
            return backbone.decode(features, prompt)


class TestCompactSam(BackboneContract):
    """The embedded SAM, on 64 pixels."""

    @staticmethod
    def build():
        return tiny_backbone()


class TestOfficialSam(BackboneContract):
    """The encoder of ViT-B two blocks deep, one with windows and one without, on 64 pixels."""

    @staticmethod
    def build():
        from segment_anything.modeling import ImageEncoderViT

        made = tiny_backbone()
        made.name = "sam-vit-b"
        made.mean, made.std = sam._normalisation(made.name)
        made.sam.image_encoder = ImageEncoderViT(
            img_size=64, patch_size=8, embed_dim=48, depth=2, num_heads=2, out_chans=32, qkv_bias=True,
            use_rel_pos=True, window_size=3, global_attn_indexes=(1,),
        )  # fmt: skip
        return made


class TestCompactSam2(BackboneContract):
    """The embedded SAM 2, on 64 pixels."""

    remembers = True
    kinds = ("memory", "dense")

    @staticmethod
    def build():
        from sam2_package import enliven

        sam2 = pytest.importorskip("ProxyPromptSegmentLib.networks.backbones.sam2")
        small = {"image_size": 64, "channels": 32, "memory_channels": 8, "memory_layers": 1, "mlp_dim": 32}
        with patch.dict(sam2_architectures.COMPACT, small):
            return enliven(sam2.Sam2Backbone("sam2-compact"))


class TestOfficialSam2(BackboneContract):
    """SAM 2.1 tiny by the package's own YAML, with a thin trunk and on 128 pixels."""

    remembers = True
    kinds = ("memory",)

    @staticmethod
    def build():
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        from sam2_package import enliven

        sam2 = pytest.importorskip("ProxyPromptSegmentLib.networks.backbones.sam2")
        text = resources.files("sam2").joinpath(sam2_architectures.SAM2_CONFIGS["sam2.1-hiera-tiny"]).read_text()
        config = OmegaConf.create(text).model
        config.image_size = 128
        trunk, neck = config.image_encoder.trunk, config.image_encoder.neck
        trunk.embed_dim, trunk.stages, trunk.global_att_blocks = 16, [1, 1, 2, 1], [3]
        neck.backbone_channel_list = [128, 64, 32, 16]
        modules = instantiate(config, _recursive_=True)
        with patch.object(sam2, "build_sam2_modules", lambda *_, **__: modules):
            return enliven(sam2.Sam2Backbone("sam2.1-hiera-tiny"))
