"""An adaptation on official weights: they stay as they are, and the file holds what was trained and their hash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapt_cases import QUICK, checked, use_folder, write_cases
from official_cases import SMALL_GENERATOR, assert_unchanged, imported_official, make_small, official_file
from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.tiling.tiler import logit_side
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting import beginning, weights
from ProxyPromptSegmentLib.training.adapting import run as running
from ProxyPromptSegmentLib.training.adapting.beginning import begin
from ProxyPromptSegmentLib.training.adapting.episodes import EpisodeSource
from ProxyPromptSegmentLib.training.adapting.run import adapt
from ProxyPromptSegmentLib.training.adapting.scoring import Scorer
from ProxyPromptSegmentLib.training.adapting.sheets import Sheet, cut_sheets
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.hashing import sha256

ONE_STEP = replace(QUICK, model="our-vit-b", steps=1, variants=1)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """An adaptation on official weights that nothing stops."""
    home = tmp_path_factory.mktemp("official")
    with pytest.MonkeyPatch.context() as patch:
        use_folder(patch, home)
        make_small(patch)
        official = imported_official(home)
        cases = checked(write_cases(home / "cases", 2, slices=1))
        result = adapt(cases, "mine", ONE_STEP, "cpu", keep_anyway=True)
        loaded, metadata = load_model("mine")
        yield {"home": home, "cases": cases, "official": official, "result": result, "model": loaded,
               "metadata": metadata, "first": begin("our-vit-b").model.state_dict()}  # fmt: skip


def test_official_weights_stay_bit_for_bit_and_the_file_names_them_by_hash(adapted):
    state = adapted["model"].state_dict()
    assert_unchanged(adapted["official"], state)
    tensors, metadata = read_checkpoint(adapted["result"].path)
    assert all(name.startswith("generator.") or "lora_" in name for name in tensors)
    assert metadata["kind"] == "generator"
    assert metadata["base"] == {"name": "our-vit-b", "sha256": sha256(adapted["home"] / "from_somewhere.pth")}
    first = {name: value.half().float() for name, value in adapted["first"].items() if name in tensors}
    changed = {name for name, value in first.items() if not torch.equal(value, state[name])}
    for part in ("contextual_encoder", "bridge", "colorization", "dense", "presence", "mask_decoder"):
        assert any(part in name for name in changed), part


def test_its_entry_is_that_of_a_generator_with_its_base_and_its_card_says_so(adapted):
    entry = registry.find("mine")
    assert (entry.kind, entry.base, entry.fits) == ("generator", "our-vit-b", "sam-vit-b")
    card = adapted["result"].path.with_suffix(".md").read_text(encoding="utf-8")
    assert "Adapted from `our-vit-b`" in card and "official weights are used as they are" in card
    assert [len(score.after) for score in adapted["result"].scores] == [1, 1]


def test_a_new_generator_is_the_same_for_the_same_seed_alone(adapted):
    again, other = begin("our-vit-b").model.state_dict(), begin("our-vit-b", seed=2).model.state_dict()
    assert all(torch.equal(value, adapted["first"][name]) for name, value in again.items())
    assert any(not torch.equal(value, adapted["first"][name]) for name, value in other.items())


class _KilledError(BaseException):
    """The end of a process."""


def test_after_a_kill_the_same_call_gives_the_same_weights(adapted, home, monkeypatch):
    monkeypatch.setattr(running, "SAVE_SECONDS", -1.0)

    def kill(event):
        if (event.stage, event.done) == ("training on all cases", 1):
            raise _KilledError

    state = home / "state"
    imported_official(home)
    with pytest.raises(_KilledError):
        adapt(adapted["cases"], "mine", ONE_STEP, "cpu", keep_anyway=True, report=kill, folder=state)
    events = []
    again = adapt(adapted["cases"], "mine", ONE_STEP, "cpu", keep_anyway=True, report=events.append, folder=state)
    assert again.sha256 == adapted["result"].sha256
    assert not any(event.stage.startswith("training fold") for event in events)


def test_a_generator_that_was_adapted_is_a_start_itself(adapted):
    begun = begin("mine")
    assert not begun.new and begun.base is not None and begun.base.name == "our-vit-b"
    settings = replace(ONE_STEP, model="mine", shares=QUICK.shares)
    assert begun.fitted(settings).anchor > 0 == begin("our-vit-b").fitted(settings).anchor
    second = adapt(adapted["cases"], "next", settings, "cpu", keep_anyway=True)
    tensors, metadata = read_checkpoint(second.path)
    assert metadata["base"]["name"] == "our-vit-b" and tensors.keys() == read_checkpoint(begun.path)[0].keys()
    assert_unchanged(adapted["official"], load("next", "cpu").segmenter.model.state_dict())


def test_official_weights_that_no_entry_has_are_refused_before_anything_is_trained(adapted, tmp_path):
    official_file(tmp_path / "another.pth", seed=3)
    with pytest.raises(CheckpointError, match="are not in the registry, and a model on them would not find them again"):
        begin("our-vit-b", str(tmp_path / "another.pth"))
    assert (
        begin("our-vit-b", str(adapted["home"] / "from_somewhere.pth")).sha256 == adapted["metadata"]["base"]["sha256"]
    )


def test_a_file_of_official_weights_for_a_model_that_needs_none_is_refused(adapted):
    with pytest.raises(UsageError, match="'sam-compact' needs no official weights"):
        begin("sam-compact", str(adapted["home"] / "from_somewhere.pth"))


def test_medsam_is_squashed_to_the_square_as_in_use(home, monkeypatch):
    make_small(monkeypatch, "medsam-vit-b")
    imported_official(home, "our-medsam", "medsam-vit-b")
    backbone = begin("our-medsam").model.backbone
    image, masks = np.full((30, 60), 50, np.float32), np.ones((1, 30, 60), np.uint8)
    store = FeatureStore(backbone, [Sheet(image, masks, (1.0, 1.0), (0.0, 100.0), 0, 0)], torch.device("cpu"), 1)
    assert store.embed_sheets(CancelToken())
    (variant,) = store.variants[0]
    assert bool(variant.valid.all() and variant.content.all() and variant.masks.all())


@pytest.fixture
def official_sam2(monkeypatch):
    """The compact SAM 2 with random weights in the place of an official one."""
    pytest.importorskip("sam2")
    monkeypatch.setattr(weights, "COMPACT_NAMES", ("sam-compact",))
    torch.manual_seed(0)
    changes = {"image_size": 128, "grid": 16, "channels": 128, "ccm_pool": 1, "key_pool": 1}
    config = replace(beginning.NEW_GENERATOR, **{**SMALL_GENERATOR, **changes})
    return build_model("sam2-compact", config, (0, 2)).eval()


def test_sam_2_segments_and_learns_single_images_with_its_finer_features(official_sam2, tmp_path):
    model = official_sam2
    sheets = cut_sheets(checked(write_cases(tmp_path, 2)), logit_side(model.backbone), model.backbone.keeps_aspect)
    store = FeatureStore(model.backbone, sheets.slices, torch.device("cpu"), 1)
    assert store.embed_sheets(CancelToken()) and store.embed_variants(1, False, CancelToken())
    first = store.variants[0][0]
    features = store.features([first])
    assert [level.shape[1:] for level in features.high_res] == [level.shape for level in first.high_res]
    assert first.bytes > sum(2 * level.numel() for level in first.high_res) > 0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = weights.trained_names(model, "all")
    start = {name: value.detach().clone() for name, value in model.named_parameters() if name in names}
    source = EpisodeSource(store, sheets.in_whole, sheets.patients, QUICK)
    twin = weights.twin(model, names)
    stage = Stage(twin, start, [source], range(2), 0, 2, QUICK)
    assert all(np.isfinite(stage.advance()) for _ in range(2))
    after = twin.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith("generator.") or "lora_" in name for name in changed)
    assert any("sam_mask_decoder" in name for name in changed)
    scorer = Scorer(sheets, store, torch.device("cpu"), None)
    assert len(scorer.score(scorer.segmenter(twin.eval()), 0, [1]).dice) == 1
