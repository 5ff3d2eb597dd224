"""Training SAM 2 on clips: what learns and what does not, a state that resumes, a result that is completed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from pool_cases import pool
from ProxyPromptSegmentLib.errors import CheckpointError, OutputError, UsageError
from ProxyPromptSegmentLib.networks.additions import added_to
from ProxyPromptSegmentLib.networks.backbones.sam2_shared import name_in_base
from ProxyPromptSegmentLib.networks.checkpoints import load_base_model, load_model, read_checkpoint, save_checkpoint
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.training.broad import trainer as broad_trainer
from ProxyPromptSegmentLib.training.broad.step import Switches
from ProxyPromptSegmentLib.training.broad.trainer import TrainingError
from ProxyPromptSegmentLib.training.memory import run
from ProxyPromptSegmentLib.training.memory.episodes import ALONE, GIVEN, PROMPTED, ClipSampler
from ProxyPromptSegmentLib.training.memory.recipe import MemoryRecipe
from ProxyPromptSegmentLib.training.memory.step import PARTS, clip_loss
from ProxyPromptSegmentLib.training.memory.trainer import MemoryTrainer
from shared_models import write_base

SMALL = MemoryRecipe(
    name="tiny",
    groups=1,
    group_size=2,
    region_groups=0,
    drawn_groups=0,
    frames=2,
    warmup_steps=1,
    minutes=0.001,
    depth=1.0,
    unrelated=0.0,
    emptied=0.0,
    given=0.0,
)
BEGINS = {PROMPTED: {"given": 0.0}, GIVEN: {"given": 1.0, "unprompted": 0.0}, ALONE: {"given": 1.0, "unprompted": 1.0}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of a base, the base, and its metadata."""
    path = write_base(tmp_path_factory.mktemp("base"))
    return path, *load_base_model(path)


def model_of(written):
    torch.manual_seed(1)
    return run.model_on(written[1], written[2])


def sampler(recipe=SMALL):
    return ClipSampler([pool(volumes=True)], recipe)


def switches(dropout=0.3):
    return Switches(late=torch.ones(()), dense_dropout=torch.tensor(dropout), others=torch.ones(()))


def trained_on(written, folder, recipe=SMALL, **options):
    return MemoryTrainer(model_of(written), written[1], sampler(recipe), recipe, folder, half=False, **options)


def test_a_step_reaches_everything_but_the_encoder_and_leaves_out_nothing_of_the_memory(written, tmp_path):
    trainer = trained_on(written, tmp_path)
    still = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert still and not any(".image_encoder." in name for name in still)
    named = dict(trainer.model.named_parameters())
    for begin, changes in BEGINS.items():
        episode = sampler(dataclasses.replace(SMALL, **changes)).draw(np.random.default_rng(0))
        assert episode.begin == begin
        loss, parts = clip_loss(trainer.model, episode, switches(), clicks=1.0)
        assert torch.isfinite(loss)
        assert dict(zip(PARTS, parts.tolist(), strict=True))["loss"] == pytest.approx(loss.item())
        loss.backward()
        still = {n for n in still if named[n].grad is None or not named[n].grad.abs().max() > 0}
    assert all(p.grad is None for n, p in trainer.model.named_parameters() if ".image_encoder." in n)
    # The other three masks, boxes and mask prompts are not asked for on clips; a gate's few units can be dead.
    unused = ("hypernetworks_mlps.1", "hypernetworks_mlps.2", "hypernetworks_mlps.3", "point_embeddings", "bridge.att")
    unused += ("kinship",)
    assert {n for n in still if not any(part in n for part in unused)} <= {"backbone.sam2.no_mem_embed", *_given_only()}


def _given_only() -> set[str]:
    return {
        "backbone.sam2.no_mem_pos_enc",
        "backbone.sam2.no_obj_ptr",  # an untrained score says that objects are there
        "backbone.sam2.no_obj_embed_spatial",
        *(
            f"backbone.sam2.sam_prompt_encoder.mask_downscaling.{n}.{kind}"
            for n in range(7)
            for kind in ("weight", "bias")
        ),
        "backbone.sam2.mask_downsample.weight",
        "backbone.sam2.mask_downsample.bias",
    }


def test_without_the_dense_prompt_the_tokens_alone_reach_the_loss(written):
    model = model_of(written)
    episode = sampler(dataclasses.replace(SMALL, given=0.0)).draw(np.random.default_rng(0))
    loss, _ = clip_loss(model, episode, switches(dropout=1.0), clicks=0.0)
    loss.backward()
    assert model.backbone.bridge.proxy_position.grad.abs().max() > 0
    assert model.generator.colorization is not None and any(
        p.grad is not None and p.grad.abs().max() > 0 for p in model.generator.colorization.parameters()
    )
    assert all(p.grad is None or not p.grad.any() for p in model.generator.dense.parameters())


def test_a_training_is_resumed_and_its_result_is_completed_by_the_base(written, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "pack_of", lambda data, out, say: data)
    monkeypatch.setattr(run, "load_pools", lambda *_: [pool(volumes=True)])
    monkeypatch.setattr(broad_trainer, "AVERAGE_EVERY", 1)
    reports = []
    first = run.train_memory(SMALL, tmp_path, tmp_path, report=reports.append, base=written[0])
    model, metadata = load_model(first)  # with the copy of the base beside it
    assert metadata["base"]["sha256"] == written[1].sha256 and metadata["name"] == "tiny"
    assert model.backbone.image_size == 256 and model.backbone.memories == 6
    tensors, _ = read_checkpoint(first)
    assert not any(".image_encoder." in name for name in tensors)
    assert any(name.startswith("generator.") for name in tensors)
    assert not list(tmp_path.glob("*.pt")) and (tmp_path / "state.safetensors").is_file()
    for name, value in model.state_dict().items():
        if ".image_encoder." in name:
            torch.testing.assert_close(value, written[1].tensors[name_in_base(name)])
    again = trained_on(written, tmp_path)
    assert again.step_count >= 1 and again.targets == again.step_count * 2 * 2
    some = next(p for p in again.trainable if again.optimizer.state.get(p))
    assert again.optimizer.state[some]["exp_avg"].abs().max() > 0
    with pytest.raises(UsageError, match="the state of another recipe"):
        trained_on(written, tmp_path, dataclasses.replace(SMALL, frames=3))
    other = dataclasses.replace(written[1], sha256="0" * 64)
    with pytest.raises(UsageError, match="the state of another recipe"):
        MemoryTrainer(model_of(written), other, sampler(), SMALL, tmp_path, half=False)


def test_weights_of_the_base_can_stay_as_they_are_and_are_then_not_stored(written, tmp_path):
    trainer = trained_on(written, tmp_path, dataclasses.replace(SMALL, shared_rate=0.0))
    trainer._step(sampler().draw(np.random.default_rng(0)))
    tensors, _ = read_checkpoint(trainer.save())
    shared = [name for name in tensors if (place := name_in_base(name)) and place in written[1].tensors]
    assert shared == [] and any(".memory_attention." in name for name in tensors)


def test_the_generator_of_the_base_can_stay_while_the_decoder_learns_to_read_the_memory(written, tmp_path):
    trainer = trained_on(written, tmp_path, dataclasses.replace(SMALL, own_generator=False))
    trainer._step(sampler(dataclasses.replace(SMALL, given=1.0, unprompted=1.0)).draw(np.random.default_rng(0)))
    added = added_to(trainer.base, trainer.model.state_dict())
    assert not [name for name in added if name.startswith("generator.")]
    assert [name for name in added if ".sam_mask_decoder." in name]


def test_given_masks_come_first(written, tmp_path):
    recipe = dataclasses.replace(SMALL, given_first=1.0, given=0.0)
    trainer = trained_on(written, tmp_path, recipe)
    begins = []
    for done in (0.1, 0.9):
        trainer._set_rate(done)
        begins.append(trainer.sampler.draw(np.random.default_rng(0)).begin)
    assert begins[0] != PROMPTED and begins[1] == PROMPTED


def test_a_step_that_is_not_finite_changes_nothing_and_many_of_them_end_the_training(written, tmp_path):
    trainer = trained_on(written, tmp_path, dataclasses.replace(SMALL, minutes=1.0))
    with torch.no_grad():
        trainer.model.backbone.bridge.proxy_position.fill_(float("nan"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(TrainingError, match="not finite"):
        trainer.run(every=1)
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, before[name], equal_nan=True, rtol=0, atol=0)


def test_after_bad_steps_the_last_good_state_is_restored_with_moments_that_came_later(written, tmp_path):
    trainer = trained_on(written, tmp_path)
    trainer._step(sampler(dataclasses.replace(SMALL, given=1.0, unprompted=1.0)).draw(np.random.default_rng(0)))
    numbers = [0.0] * len(trainer.numbers)
    trainer._report(numbers, None)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer._step(sampler(dataclasses.replace(SMALL, given=0.0)).draw(np.random.default_rng(1)))
    assert len(trainer._optimizer_tensors()) > len(trainer._good) - len(before)
    numbers[trainer.numbers.index("skipped")] = 1.0
    trainer._report(numbers, None)
    assert trainer.rate_factor < 1
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("given", [0.0, pytest.param(1.0, marks=pytest.mark.slow)], ids=["prompted", "given mask"])
def test_half_precision_gives_nearly_the_same_loss(written, given):
    recipe = dataclasses.replace(SMALL, given=given)
    model, episode = model_of(written), sampler(recipe).draw(np.random.default_rng(0))
    losses = []
    for half in (False, True):
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(float(clip_loss(model, episode, switches(), clicks=0.5)[0]))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_an_earlier_training_can_be_the_start_and_other_weights_are_refused(written, tmp_path):
    trainer = trained_on(written, tmp_path)
    with torch.no_grad():
        trainer.average["backbone.bridge.proxy_position"].fill_(0.5)
    tensors = {name: value.float() for name, value in read_checkpoint(trainer.save())[0].items()}
    model = model_of(written)
    run.start_from(model, tensors)
    assert (model.backbone.bridge.proxy_position == 0.5).all()
    with pytest.raises(CheckpointError, match="not those of this network"):
        run.start_from(model, written[1].tensors)


def test_a_base_of_another_size_or_name_is_refused(written, tmp_path):
    first = build_model("sam2-compact")
    save_checkpoint(tmp_path / "first.safetensors", first.state_dict(), {"name": "first", "model": first.describe()})
    base, metadata = load_base_model(tmp_path / "first.safetensors")
    with pytest.raises(UsageError, match="'first' is for 128 pixels, .* start from a compact SAM of 256 pixels"):
        run.model_on(base, metadata)
    with pytest.raises(CheckpointError, match="does not describe its prompt generator"):
        run.model_on(written[1], {})
    with pytest.raises(UsageError, match="clips are trained on the compact SAM's encoder"):
        MemoryTrainer(first, base, sampler(), SMALL, tmp_path / "out")
    with pytest.raises(UsageError, match="both called 'sam-compact'"):
        run.train_memory(dataclasses.replace(SMALL, name="sam-compact"), tmp_path, tmp_path, base=written[0])
    (tmp_path / "sam-compact.safetensors").write_bytes(b"another")
    with pytest.raises(OutputError, match="is another model than the base"):
        run.train_memory(SMALL, tmp_path, tmp_path, base=written[0])
