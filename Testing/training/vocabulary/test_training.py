"""A generator that needs no support is trained on embedded images: draws, strangers, what is kept, and resuming."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from described_discs import write_discs

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import CheckpointError, InputError, UsageError  # noqa: E402
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint  # noqa: E402
from ProxyPromptSegmentLib.networks.image_prompt.config import COMPACT, OFFICIAL  # noqa: E402
from ProxyPromptSegmentLib.networks.model import build_model  # noqa: E402
from ProxyPromptSegmentLib.progress import CancelToken  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary import run as running  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.features import LEAST_PIXELS, KeptImages, embed  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.losses import UncertaintyWeighting  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.readout_fit import fit_readout  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.recipe import (  # noqa: E402
    LossSwitches,
    TaughtClass,
    VocabularyRecipe,
    classes_of,
    read_vocabulary_recipe,
)
from ProxyPromptSegmentLib.training.vocabulary.run import train_vocabulary  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.sampler import ClassSampler  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.step import class_loss, weighted_losses  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.trainer import VocabularyTrainer  # noqa: E402
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass  # noqa: E402

RECIPES = Path(__file__).parents[3] / "Resources" / "recipes"
SMALL = {"widths": [8, 16, 16], "embedding": 8}
RECIPE = VocabularyRecipe(
    name="classes",
    classes=(
        TaughtClass(about=PromptClass("disc"), sets={"discs": ("disc",)}),
        TaughtClass(about=PromptClass("ball"), sets={"balls": ("disc",)}),
    ),
    generator=SMALL,
    images=4,
    variants=1,
    minutes=0.05,
    warmup_steps=2,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_discs(folder / "discs", 5, validation=["case3"], test=["case4"])
    write_discs(folder / "balls", 3, name="balls")
    return folder


@pytest.fixture(scope="module")
def kept(data, tmp_path_factory) -> list[KeptImages]:
    torch.manual_seed(0)
    backbone = build_model("sam-compact").eval().backbone
    return embed(RECIPE, data, tmp_path_factory.mktemp("kept"), backbone, "0" * 64)


def test_training_patients_alone_are_embedded_each_with_its_variants(kept):
    assert [(one.dataset, len(one.shown)) for one in kept] == [("discs", 3), ("balls", 3)] * 2
    assert kept[0].get("top", 1).shape == (128, 32, 32) and kept[0].get("top", 1).dtype == torch.float16
    assert not torch.equal(kept[0].get("top", 1), kept[2].get("top", 1))


def test_masks_are_kept_at_the_size_of_the_decoder_and_say_which_objects_are_shown(kept):
    masks = kept[0].get("masks", 0)
    assert masks.shape == (1, 128, 128) and masks.dtype == torch.uint8
    assert float((masks > 127).float().mean()) == pytest.approx(3.14 * 0.2**2, rel=0.1)
    assert kept[0].shown.all() and LEAST_PIXELS > 0


def test_what_is_kept_is_not_embedded_again_and_a_change_of_weights_is_seen(data, tmp_path):
    class Counting(torch.nn.Module):
        image_size, grid, keeps_aspect, calls = 64, 8, True, 0

        def encode(self, images, valid=None):
            self.calls += 1
            return dataclasses.make_dataclass("Found", ["top"])(torch.zeros(len(images), 4, 8, 8))

    backbone = Counting()
    embed(RECIPE, data, tmp_path, backbone, "a" * 64)
    before = backbone.calls
    embed(RECIPE, data, tmp_path, backbone, "a" * 64)
    assert backbone.calls == before > 0
    embed(RECIPE, data, tmp_path, backbone, "b" * 64)
    assert backbone.calls == 2 * before


def test_classes_are_drawn_evenly_and_strangers_are_of_other_sets(kept):
    sampler = ClassSampler(kept, dataclasses.replace(RECIPE, images=200), torch.device("cpu"))
    episode = sampler.draw(np.random.default_rng(1))
    assert 70 < int((episode.classes[:, 0] == 0).sum()) < 130
    assert torch.equal(episode.classes[:, 1], 1 - episode.classes[:, 0])
    assert episode.there[:, 0].all() and not episode.there[:, 1].any() and episode.counted.all()
    assert episode.targets == 200 and episode.truth.shape == (200, 1, 128, 128)


def test_kin_sets_are_no_strangers(kept):
    recipe = dataclasses.replace(RECIPE, alike=(("discs", "balls"),))
    assert RECIPE.strangers_of("discs") == (1,) and recipe.strangers_of("discs") == ()
    episode = ClassSampler(kept, recipe, torch.device("cpu")).draw(np.random.default_rng(1))
    assert not episode.counted[:, 1].any()


def test_images_of_other_sets_show_none_of_the_classes_and_are_learned_from(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, classes=RECIPE.classes[:1], others=("balls",), foreign=0.5, images=100)
    torch.manual_seed(0)
    found = embed(recipe, data, tmp_path, build_model("sam-compact").eval().backbone, "0" * 64)
    assert {one.dataset for one in found} == {"discs", "balls"}
    episode = ClassSampler(found, recipe, torch.device("cpu")).draw(np.random.default_rng(1))
    foreign = episode.there[:, 0] == 0
    assert 30 < int(foreign.sum()) < 70
    assert not episode.truth[foreign].any() and episode.truth[~foreign].flatten(1).any(1).all()
    assert episode.counted[foreign].all()


def test_a_generator_that_reads_images_learns_with_its_preview_and_keeps_the_trunk_of_its_base(
    data, tmp_path, monkeypatch
):
    losses = LossSwitches(distribution="none", transfer=False, weighting="equal")
    recipe = dataclasses.replace(
        RECIPE,
        kind="image",
        generator={"read_size": 64, "width": 8},
        classes=RECIPE.classes[:1],
        variants=0,
        images=2,
        strangers=0,
        losses=losses,
        minutes=0.03,
    )
    path = train(recipe, data, tmp_path, 1, monkeypatch)
    tensors, _ = read_checkpoint(path)
    assert any("surrogate" in name for name in tensors) and not any("trunk" in name for name in tensors)
    model, _ = load_model(path)
    own = model.generator.encoder.trunk.state_dict()
    theirs = model.backbone.sam.image_encoder.trunk.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items())


def test_a_class_that_no_training_image_shows_is_named(kept):
    recipe = dataclasses.replace(
        RECIPE, classes=(*RECIPE.classes, TaughtClass(about=PromptClass("cube"), sets={"cubes": ("cube",)}))
    )
    with pytest.raises(InputError, match="'cube'"):
        ClassSampler(kept, recipe, torch.device("cpu"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distribution": "sdf"},
        {"distribution": "none", "transfer": False},
        {"bce": False},
        {"dice": False, "weighting": "equal"},
    ],
)
def test_each_loss_can_be_left_out_and_the_rest_teaches_the_generator_alone(kept, changes):
    switches = LossSwitches(**changes)
    torch.manual_seed(0)
    model = build_model("sam-compact", running.generator_config(RECIPE, True))
    model.requires_grad_(False)
    model.generator.requires_grad_(True)
    weighting = UncertaintyWeighting(weighted_losses(switches))
    episode = ClassSampler(kept, RECIPE, torch.device("cpu")).draw(np.random.default_rng(1))
    loss, parts = class_loss(model, weighting, episode, switches)
    loss.backward()
    assert torch.isfinite(parts).all() and bool(parts[1:5].bool().sum() >= len(weighting.names))
    assert any(parameter.grad is not None for parameter in model.generator.parameters())
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert (weighting.uncertainty.grad is not None) == (switches.weighting == "uncertainty")


def test_the_linear_readings_find_bright_discs(kept):
    torch.manual_seed(0)
    model = build_model("sam-compact", running.generator_config(RECIPE, True)).eval()
    readout = model.generator.class_encoder.readout
    fit_readout(readout, kept, dataclasses.replace(RECIPE, alike=(("discs", "balls"),)))  # the same images
    one = kept[0]
    top = torch.stack([one.get("top", index) for index in range(3)]).float()
    maps, presence = readout(top, torch.tensor([[0, 1]]).expand(3, 2))
    truth = torch.stack([one.get("masks", index)[0] for index in range(3)]).float() / 255
    small = torch.nn.functional.adaptive_avg_pool2d(truth, 32) > 0.5
    inside = maps[:, 0] > 0
    assert float(2 * (inside & small).sum() / (inside.sum() + small.sum())) > 0.7
    assert presence.shape == (3, 2) and torch.isfinite(presence).all()


def test_before_the_decoder_runs_the_prompts_of_the_backbone_are_learned(kept):
    switches = LossSwitches(mask_transfer=True)
    torch.manual_seed(0)
    model = build_model("sam-compact", running.generator_config(RECIPE, True))
    weighting = UncertaintyWeighting(weighted_losses(switches))
    episode = ClassSampler(kept, RECIPE, torch.device("cpu")).draw(np.random.default_rng(1))
    loss, parts = class_loss(model, weighting, episode, switches, decoding=False)
    loss.backward()
    assert not parts[1:4].any() and float(parts[4]) > 0
    assert model.generator.class_encoder.correction.weight.grad.any()
    assert all(parameter.grad is None for parameter in model.backbone.sam.mask_decoder.parameters())


def train(recipe, data, out, steps, monkeypatch, **options):
    """Train so many steps, whatever their time."""
    cancel, count, loss = CancelToken(), [], VocabularyTrainer._loss

    def counted(self, episode):
        count.append(1)
        if len(count) == steps:
            cancel.cancel()
        return loss(self, episode)

    with monkeypatch.context() as patch:
        patch.setattr(VocabularyTrainer, "_loss", counted)
        return train_vocabulary(dataclasses.replace(recipe, minutes=60), data, out, cancel=cancel, **options)


def test_a_training_learns_is_resumed_and_its_file_holds_the_generator_alone(data, tmp_path, monkeypatch):
    said: list[str] = []
    recipe = dataclasses.replace(RECIPE, variants=0)
    path = train(recipe, data, tmp_path, 2, monkeypatch, say=said.append)
    assert len(said) == 3 and "linear readings" in said[-1]
    tensors, metadata = read_checkpoint(path)
    assert all(name.startswith("generator.") for name in tensors)
    assert metadata["model"]["generator_kind"] == "class"
    assert set(metadata["uncertainty"]) == set(weighted_losses(recipe.losses))
    model, _ = load_model(path)
    assert [one.name for one in model.generator.vocabulary] == ["disc", "ball"]
    said.clear()
    again = train(recipe, data, tmp_path, 1, monkeypatch, say=said.append)
    assert (metadata["steps"], read_checkpoint(again)[1]["steps"], said) == (2, 3, [])
    with pytest.raises(UsageError, match="another recipe"):
        train_vocabulary(dataclasses.replace(recipe, images=3), data, tmp_path)


def test_the_readings_of_another_training_are_corrected_for_so_many_steps(data, tmp_path):
    torch.manual_seed(5)
    other = build_model(
        "sam-compact", running.generator_config(dataclasses.replace(RECIPE, generator={"diffusion": False}), True)
    )
    readings = {name: value for name, value in other.state_dict().items() if name.startswith("generator.")}
    recipe = dataclasses.replace(RECIPE, variants=0, steps=1, generator={**SMALL, "corrects": True})
    said: list[str] = []
    path = train_vocabulary(recipe, data, tmp_path / "b", initial=readings, say=said.append)
    tensors, metadata = read_checkpoint(path)
    assert metadata["steps"] == 1 and not any("linear readings" in one for one in said)
    assert any("better than the readings alone" in one for one in said)
    place = "generator.class_encoder.trust"
    assert tensors[place].tolist() in ([0, 0], [1, 0])  # what no validation image shows is not corrected
    place = "generator.class_encoder.readout.hidden.weight"
    torch.testing.assert_close(tensors[place].float(), readings[place], atol=1e-3, rtol=1e-2)


def test_without_time_the_readings_are_fitted_and_nothing_is_trained(data, tmp_path):
    path = train_vocabulary(dataclasses.replace(RECIPE, variants=0, minutes=0.0), data, tmp_path)
    tensors, metadata = read_checkpoint(path)
    assert metadata["steps"] == 0 and tensors["generator.class_encoder.readout.maps"].any()


def test_a_cancelled_embedding_says_how_it_continues(data, tmp_path):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(UsageError, match="run the same command"):
        train_vocabulary(RECIPE, data, tmp_path, cancel=cancel)


def test_weights_to_start_from_must_be_of_the_same_generator(data, tmp_path):
    with pytest.raises(CheckpointError, match="same classes"):
        train_vocabulary(RECIPE, data, tmp_path, initial={"generator.other": torch.zeros(1)})


def test_without_classes_each_described_object_is_one(data):
    found = classes_of(dataclasses.replace(RECIPE, classes=()), data)
    assert [(one.about.name, one.sets) for one in found] == [("disc", {"balls": ("disc",), "discs": ("disc",)})]


def test_a_folder_that_describes_nothing_is_rejected(tmp_path):
    with pytest.raises(UsageError, match=r"dataset\.json"):
        classes_of(dataclasses.replace(RECIPE, classes=()), tmp_path)


def test_a_generator_on_an_official_backbone_has_the_sizes_of_that_and_on_the_compact_one_its():
    recipe = dataclasses.replace(RECIPE, kind="image", generator={})
    for compact, wanted in ((False, OFFICIAL), (True, COMPACT)):
        found = running.generator_config(recipe, compact)
        assert found == dataclasses.replace(wanted, classes=found.classes)


def test_recipes_of_the_program_are_read_and_the_compact_one_has_what_is_promised():
    for path in RECIPES.glob("auto*.json"):
        read_vocabulary_recipe(path)
    recipe = read_vocabulary_recipe(RECIPES / "classes-compact.json")
    assert len(recipe.classes) >= 20
    assert len({kind for one in recipe.classes for kind in one.about.modalities}) >= 5
    assert "msd_spleen_ct" not in recipe.datasets


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"images": 0}, "images 0"),
        ({"decode_from": 1.0}, "decode_from 1"),
        ({"decode_from": 0.5, "losses": {"transfer": False}}, "needs the loss transfer"),
        ({"losses": {"bce": False, "dice": False, "distribution": "none"}}, "every loss"),
        ({"classes": [{"about": {"name": "a"}, "sets": {}}, {"about": {"name": "A"}, "sets": {}}]}, "'a' twice"),
    ],
)
def test_recipes_that_cannot_be_trained_are_rejected(tmp_path, changes, text):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"training": "vocabulary", **changes}), encoding="utf-8")
    with pytest.raises(UsageError, match=text):
        read_vocabulary_recipe(path)
