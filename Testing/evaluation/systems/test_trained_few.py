"""SAMed, Med-SA and AutoSAM: what they train, how much of it, and that a training reaches what it is for."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks, drawn_case, drawn_lesson, tiny_frozen
from ProxyPromptSegmentLib.errors import CancelledError, InputError, UsageError
from ProxyPromptSegmentLib.evaluation import few_shot_unet
from ProxyPromptSegmentLib.evaluation.systems import learning
from ProxyPromptSegmentLib.evaluation.systems.adapters import QueryValueLora
from ProxyPromptSegmentLib.evaluation.systems.auto_sam import AutoSam, AutoSamNetwork
from ProxyPromptSegmentLib.evaluation.systems.known_classes import AUTO_SAM, IMAGE_MODELS, KnownClasses
from ProxyPromptSegmentLib.evaluation.systems.med_sa import NOTHING, MedSa, MedSaNetwork
from ProxyPromptSegmentLib.evaluation.systems.samed import Samed, SamedNetwork
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.evaluation.systems.truth import Said
from ProxyPromptSegmentLib.evaluation.systems.unet import UnetSystem
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.progress import CancelToken

PUBLISHED_MIB = 18.81
"""Size of SAMed's checkpoint as its paper has it, 5.25 % of SAM's: LoRA, prompt encoder and decoder of 8 organs."""


@pytest.fixture(scope="module")
def vit_b():
    with torch.device("meta"):
        return SamBackbone("sam-vit-b")


def trained(module):
    return {name: one for name, one in module.named_parameters() if one.requires_grad}


def test_samed_on_vit_b_trains_as_much_as_was_published(vit_b):
    with torch.device("meta"):
        network = SamedNetwork(vit_b, 8)
    found = trained(network)
    lora = {name: one for name, one in found.items() if ".up_" in name or ".down_" in name}
    assert len(lora) == 12 * 4 and sum(one.numel() for one in lora.values()) == 12 * 2 * 2 * 4 * 768 == 147_456
    others = {name.split(".")[2] for name in found if name not in lora}
    assert others == {"mask_decoder", "prompt_encoder"}
    stored, file = {name: torch.zeros(one.shape) for name, one in found.items()}, io.BytesIO()
    torch.save(stored, file)
    assert file.tell() / 2**20 == pytest.approx(PUBLISHED_MIB, abs=0.05)
    assert learning.count_trained(network) == 4_913_621


def test_med_sa_on_vit_b_trains_two_adapters_of_a_quarter_in_each_block_and_the_decoder(vit_b):
    with torch.device("meta"):
        network = MedSaNetwork(vit_b, Said.BOX)
    adapters = {name: one for name, one in trained(network).items() if "image_encoder" in name}
    one = 768 * 192 + 192 + 192 * 768 + 768
    assert sum(part.numel() for part in adapters.values()) == 12 * 2 * one == 7_100_928
    assert all(".adapter." in name for name in adapters)
    assert learning.count_trained(network) == 7_100_928 + 4_058_340


def test_lora_changes_queries_and_values_and_nothing_else():
    torch.manual_seed(0)
    qkv, x = torch.nn.Linear(6, 18), torch.randn(2, 3, 6)
    lora = QueryValueLora(qkv, 2)
    torch.testing.assert_close(lora(x), qkv(x))
    with torch.no_grad():
        lora.up_q.weight.normal_()
        lora.up_v.weight.normal_()
    change = lora(x) - qkv(x)
    torch.testing.assert_close(change[..., :6], x @ (lora.up_q.weight @ lora.down_q.weight).T)
    torch.testing.assert_close(change[..., 12:], x @ (lora.up_v.weight @ lora.down_v.weight).T)
    assert not change[..., 6:12].any()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    masks = torch.zeros(2, 2, 64, 64)
    masks[:, 0, 10:50, 12:44] = 1
    masks[0, 1, 20:30, 20:30] = 1
    return torch.rand(2, 3, 64, 64), torch.ones(2, 8, 8, dtype=torch.bool), masks


def test_before_a_step_all_three_are_the_frozen_sam(batch):
    backbone = tiny_frozen().segmenter.model.backbone
    images, valid, masks = batch
    with torch.no_grad():
        features = backbone.encode(images, valid)
        unprompted = Prompt(sparse=features.top.new_zeros(2, 1, 0, 32))
        three = backbone.decode_masks(features, unprompted, (1, 2))[0][:, 0]
        torch.testing.assert_close(SamedNetwork(backbone, 2).draw(images, valid, masks), three)
        box = torch.tensor([[12.0, 10.0, 43.0, 49.0]])
        boxed = Prompt(sparse=backbone.prompt_points(None, None, box)[None].expand(2, 1, -1, -1))
        drawn = MedSaNetwork(backbone, Said.BOX).draw(images, valid, masks)
        torch.testing.assert_close(drawn[:, :1], backbone.decode(features, boxed).logits)
        assert (drawn[1, 1] == NOTHING).all() and (drawn[0, 1] > NOTHING).all()
        network = AutoSamNetwork(backbone, 2)
        dense = network.generator.embed(images)[:, :, :-1]
        torch.testing.assert_close(
            network.draw(images, valid, masks), backbone.decode(features, Prompt(dense=dense)).logits
        )
        assert {name.split(".")[0] for name in trained(network)} == {"generator"}


@pytest.mark.parametrize("make", [Samed, MedSa, lambda f: MedSa(f, Said.BOX), AutoSam], ids=["a", "b", "c", "d"])
def test_a_training_changes_what_it_may_leaves_the_frozen_model_and_segments(make):
    frozen, target = tiny_frozen(), drawn_case(9, side=48)
    before = {name: one.clone() for name, one in frozen.segmenter.model.state_dict().items()}
    system = make(frozen)
    said = []
    fitted = system.fit(drawn_lesson(2, seconds=1e-6), said.append)
    assert fitted.steps == 1 and said == [1.0]
    check_masks(fitted.segment(target), target)
    for name, one in frozen.segmenter.model.state_dict().items():
        assert torch.equal(one, before[name]), name
    assert any(one.grad is not None and one.grad.any() for one in trained(fitted.learner).values())
    assert "tiny stands in for" in system.source or system.name == "Med-SA, 1 point"
    frozen.name = "/home/mine/tiny.safetensors"
    assert "mine" not in system.source
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        system.fit(drawn_lesson(1), cancel=cancel)


def test_steps_lower_the_loss_and_no_case_is_refused(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(learning, "training_clock", lambda device: next(ticks) / 2)  # a step takes half a second
    frozen, losses = tiny_frozen(), []
    network = SamedNetwork(frozen.segmenter.model.backbone, 2)
    real = network.loss
    network.loss = lambda logits, truth: losses.append(real(logits, truth)) or losses[-1]
    lesson = drawn_lesson(2, seconds=10)
    assert learning.learn(network, lesson, 5e-3, 0.0) == 20 == len(losses)
    assert torch.stack(losses[-5:]).mean() < 0.92 * torch.stack(losses[:5]).mean()
    with pytest.raises(InputError, match="no annotated case"):
        learning.learn(network, Lesson(few=()), 5e-3, 0.0)


def test_autosam_embeds_a_few_changed_slices_once_and_leaves_a_trunk_as_it_is(monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(learning, "training_clock", lambda device: next(ticks) / 2)
    frozen, trunk, embedded = tiny_frozen(), EfficientNetLite0().eval(), []
    frozen.segmenter.model.backbone.sam.image_encoder.trunk = trunk
    before = {name: one.clone() for name, one in trunk.state_dict().items()}
    whole = AutoSamNetwork.embed
    monkeypatch.setattr(AutoSamNetwork, "embed", lambda self, *given: embedded.append(1) or whole(self, *given))
    fitted = AutoSam(frozen).fit(drawn_lesson(2, seconds=6))
    network = fitted.learner
    # The embedding is a part of the time: two slices, three times within a quarter of it, and no encoder in a step.
    assert len(embedded) == 2 * 3 and fitted.steps == 7
    assert network.keeps and not any(".trunk." in name for name in trained(network))
    assert all(torch.equal(one, before[name]) for name, one in trunk.state_dict().items())
    images, valid = torch.rand(1, 3, 64, 64), torch.ones(1, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(network.draw(images, valid, images), network.decode(network.embed(images, valid)))
    assert not AutoSamNetwork(frozen.segmenter.model.backbone, 2).keeps  # a random trunk is trained


def test_a_model_that_knows_no_such_class_is_said_and_one_that_does_answers_by_name(shared_data):
    target = drawn_case(1)
    with pytest.raises(UsageError, match="no model"):
        KnownClasses().fit(Lesson(few=(replace(target, objects=("spoke", "hub")),)))
    fundus = replace(target, objects=("optic disc", "optic cup"))
    masks = KnownClasses(AUTO_SAM, IMAGE_MODELS).fit(Lesson(few=(fundus,))).segment(fundus)
    check_masks(masks, fundus)
    assert np.array_equal(masks.shape, fundus.masks.shape)


@pytest.mark.parametrize("sided", [False, True])
def test_every_trained_system_mirrors_what_an_adaptation_mirrors(monkeypatch, sided):
    seen = []

    def noted(images, masks, generator, flip=True):
        seen.append(bool(flip))
        return images, masks

    monkeypatch.setattr(learning, "augment", noted)
    monkeypatch.setattr(few_shot_unet, "augment", noted)
    case = drawn_case(0, slices=2)
    masks = np.zeros_like(case.masks)
    masks[..., 20:40, 4 : 20 if sided else -4] = 1
    lesson = Lesson(few=(replace(case, masks=masks),), seconds=0, threads=1)
    Samed(tiny_frozen()).fit(lesson)
    UnetSystem().fit(lesson)
    assert len(seen) >= 2 and set(seen) == {not sided}
