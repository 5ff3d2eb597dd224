"""An adaptation that trains the image encoder as well: resumed bit for bit, tested with its own embeddings."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapt_cases import QUICK, TINY, checked, register_small_model, thin, use_folder, write_cases
from official_cases import assert_unchanged, imported_official, make_small
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.training.adapting import run as running
from ProxyPromptSegmentLib.training.adapting.beginning import begin
from ProxyPromptSegmentLib.training.adapting.cases import check_cases
from ProxyPromptSegmentLib.training.adapting.episodes import EpisodeSource
from ProxyPromptSegmentLib.training.adapting.run import adapt
from ProxyPromptSegmentLib.training.adapting.scoring import Scorer
from ProxyPromptSegmentLib.training.adapting.settings import ALL, ENCODER, AdaptSettings
from ProxyPromptSegmentLib.training.adapting.sheets import cut_sheets, support_set, supports_of
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.training.adapting.weights import of_encoder, put, trained_names, twin

CPU = torch.device("cpu")
WHOLE = replace(QUICK, trained=ENCODER)
IN_ENCODER = "backbone.sam.image_encoder."


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """An adaptation with its image encoder that nothing stops."""
    home = tmp_path_factory.mktemp("encoder")
    with pytest.MonkeyPatch.context() as patch:
        use_folder(patch, home)
        register_small_model(home)
        cases = checked(write_cases(home / "cases", 2, ("gland", "stone")))
        events = []
        result = adapt(cases, "mine", WHOLE, "cpu", keep_anyway=True, report=events.append)
        loaded, metadata = load_model("mine")
        card = result.path.with_suffix(".md").read_text(encoding="utf-8")
        base, _ = load_model("small")
        return {"cases": cases, "result": result, "events": events, "model": loaded, "base": base, "card": card,
                "metadata": metadata, "stored": read_checkpoint(result.path)[0]}  # fmt: skip


def test_the_image_encoder_learns_and_what_is_not_trained_stays_bit_for_bit(adapted):
    before, after = adapted["base"].state_dict(), adapted["model"].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = set(trained_names(adapted["base"], ENCODER))
    assert changed <= trained and changed & set(of_encoder(trained))
    assert not any("kinship" in name or "depth_scale" in name or "prompt_encoder" in name for name in changed)


def test_the_file_holds_only_what_differs(adapted):
    before, after = adapted["base"].state_dict(), adapted["model"].state_dict()
    assert adapted["stored"].keys() == {name for name in before if not torch.equal(before[name], after[name])}
    assert adapted["metadata"]["base"]["name"] == "small"
    size = sum(2 * value.numel() for value in adapted["stored"].values())
    assert adapted["result"].path.stat().st_size < 1.25 * size + 20_000


def test_the_card_says_that_the_image_encoder_was_trained(adapted):
    assert "Image encoder, prompt generator and mask decoder were trained." in adapted["card"]
    assert "2 steps, slices changed in each, 100% of the way" in adapted["card"]


def test_no_variants_are_stored(adapted):
    stages = {event.stage for event in adapted["events"]}
    assert "embedding variants" not in stages and "embedding" in stages
    assert adapted["metadata"]["adapted"]["settings"]["variants"] == 0
    assert adapted["events"][-1].seconds_left == 0


@pytest.mark.parametrize(("trained", "embedded"), [(ENCODER, 3), (ALL, 0)])
def test_the_estimate_has_what_a_test_with_an_own_image_encoder_embeds(clinic, adapted, monkeypatch, trained, embedded):
    real, cancel = running._Run._embed, running.CancelToken()

    def slowly(run):
        done = real(run)
        run._embed_seconds = 1000.0
        return done

    def decided(run):
        cancel.cancel()
        return run._plan.score_seconds

    monkeypatch.setattr(running._Run, "_embed", slowly)
    found = []
    monkeypatch.setattr(running._Run, "_embed_variants", lambda run: found.append(decided(run)))
    settings = replace(WHOLE, trained=trained)
    assert adapt(adapted["cases"], "mine", settings, "cpu", cancel=cancel).cancelled
    # those of the other case that it reads, beside its own, which the test before has embedded as well
    assert found[0] // 1000 == embedded


class _KilledError(BaseException):
    """The end of a process: nothing is caught, nothing is cleaned up."""


@pytest.mark.parametrize(
    "stage", [pytest.param("training fold 2 of 2", marks=pytest.mark.slow), "training on all cases"]
)
def test_after_a_kill_the_same_call_gives_the_same_weights(clinic, adapted, monkeypatch, stage):
    monkeypatch.setattr(running, "SAVE_SECONDS", -1.0)

    def kill(event):
        if (event.stage, event.done) == (stage, 2):  # the state is that of the first step
            raise _KilledError

    with pytest.raises(_KilledError):
        adapt(adapted["cases"], "mine", WHOLE, "cpu", keep_anyway=True, report=kill)
    assert not (clinic / "cache" / "mine").exists()
    resumed, real = [], running.Stage.resume
    monkeypatch.setattr(
        running.Stage, "resume", lambda training, state: (resumed.append(state.step), real(training, state))
    )
    again = adapt(adapted["cases"], "mine", WHOLE, "cpu", keep_anyway=True)
    assert resumed == [1] and again.sha256 == adapted["result"].sha256


def test_one_marked_picture_of_one_patient_is_enough(clinic):
    cases = checked(write_cases(clinic / "cases", 1, slices=1), allow_single=True)
    assert adapt(cases, "mine", replace(WHOLE, allow_single=True, steps=1), "cpu").kept


@pytest.mark.slow
def test_what_is_drawn_in_tiles_is_learned_and_tested_with_the_image_encoder(clinic):
    cases = check_cases([thin(seed) for seed in range(2)])
    events = []
    kept = adapt(cases, "mine", replace(WHOLE, steps=1), "cpu", keep_anyway=True, report=events.append)
    assert kept.kept and [len(score.after) for score in kept.scores] == [1, 1]
    embedded = next(event for event in events if event.stage == "embedding")
    assert embedded.total == 2  # the tiles are embedded by the steps


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A model with the pyramid encoder, whose trunk has batch norms; sheets and their store."""
    torch.manual_seed(0)
    model = build_model("sam-compact", replace(TINY, image_size=192, grid=24)).eval()
    sheets = cut_sheets(checked(write_cases(tmp_path_factory.mktemp("cases"), 3, ("gland", "stone"))), 96)
    store = FeatureStore(model.backbone, sheets.slices, CPU, 1)
    assert store.embed_sheets(running.CancelToken())
    return model, sheets, store


def trained(parts, steps: int, **changes):
    """Train a twin of the model for some steps; return the stage and the first weights."""
    model, sheets, store = parts
    settings = replace(WHOLE, **changes)
    names = trained_names(model, settings.trained)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if name in set(names)}
    source = EpisodeSource(store, sheets.in_whole, sheets.patients, settings, mirror=True)
    stage = Stage(twin(model, names), start, [source], range(3), 0, steps, settings)
    while not stage.done:
        stage.advance()
    return stage, start


def test_batch_norms_keep_their_statistics_and_the_first_model_stays_as_it_was(parts):
    model = parts[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stage, _ = trained(parts, 2)
    after = stage.model.state_dict()
    kept = [name for name in before if "running_" in name or "num_batches" in name]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    assert not torch.equal(
        before[f"{IN_ENCODER}trunk.conv_stem.weight"], after[f"{IN_ENCODER}trunk.conv_stem.weight"]
    )  # the gradient reaches the first layer
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_image_encoder_learns_at_its_share_of_the_rate(parts):
    rate = 1e-3  # Adam's first step moves each weight by the rate, whatever the gradient
    stage, start = trained(parts, 1, learning_rate=rate, encoder_rate=0.1, warmup=0.0, anchor=0.0)
    now = dict(stage.model.named_parameters())
    moved = {name: float((now[name].detach() - value).abs().max()) for name, value in start.items()}
    encoder = set(of_encoder(moved))
    assert 0.09 * rate * 0.5 < max(moved[name] for name in encoder) < 0.101 * rate
    assert 0.4 * rate < max(value for name, value in moved.items() if name not in encoder) < 1.01 * rate


def test_each_step_draws_changed_slices_that_follow_from_its_seed(parts):
    model, sheets, store = parts
    source = EpisodeSource(store, sheets.in_whole, sheets.patients, WHOLE)

    def images(step: int):
        return source.draw([0, 1, 2], (1, 0, step), model.backbone).episode.images

    assert torch.equal(images(0), images(0))
    drawn = [image for step in range(8) for image in images(step)]
    assert not any(torch.equal(one, other) for n, one in enumerate(drawn) for other in drawn[:n])


def test_features_of_a_step_are_those_of_its_images_with_a_gradient(parts):
    model, sheets, store = parts
    source = EpisodeSource(store, sheets.in_whole, sheets.patients, WHOLE)
    drawn = source.draw([0, 1, 2], (1, 0, 3), model.backbone)
    assert drawn.features.top.requires_grad
    expected = model.backbone.encode(drawn.episode.images, drawn.features.valid)
    assert torch.equal(drawn.features.top, expected.top)


@pytest.mark.slow
def test_a_left_out_case_is_embedded_by_the_model_that_is_tested(parts):
    model, sheets, store = parts
    stage, _ = trained(parts, 3, learning_rate=3e-2)
    tested = stage.model.eval()
    scorer = Scorer(sheets, store, CPU, None, embeds=True)
    before = scorer.score(scorer.segmenter(model), 0, [1, 2])
    segmenter = scorer.segmenter(tested)
    found = scorer.score(segmenter, 0, [1, 2])
    support = support_set(sheets.objects, supports_of(sheets, [1, 2]))
    for sheet, mine in zip(sheets.of_case(0), _slices_of(scorer, segmenter, 0), strict=True):
        in_use = segment_stack(segmenter, sheet.image[None], support, sheet.window, sheet.spacing_mm)
        assert np.allclose(mine, in_use.probability[0], atol=1e-6)
    again = scorer.score(scorer.segmenter(model), 0, [1, 2])  # nothing of the other model is kept
    assert again.dice == before.dice and np.array_equal(again.picture.found, before.picture.found)
    assert len(found.dice) == 2


def _slices_of(scorer, segmenter, case):
    """What the scorer's segmenter draws on the slices of a case."""
    _, _, prepared = scorer._supports(segmenter, [1, 2])
    return [
        segmenter.predict(scorer._encoded(segmenter, sheet), prepared)[0].probability for sheet in scorer._targets(case)
    ]


def test_a_frozen_encoder_is_neither_trained_nor_run_in_a_step(parts):
    model, sheets, store = parts
    settings = replace(WHOLE, trained=ALL)
    fresh = copy.deepcopy(store)
    assert fresh.embed_variants(1, False, running.CancelToken())
    names = trained_names(model, ALL)
    assert not of_encoder(names)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if name in set(names)}
    source = EpisodeSource(fresh, sheets.in_whole, sheets.patients, settings)
    stage = Stage(twin(model, names), start, [source], range(3), 0, 1, settings)
    put(stage.model, start)
    stage.model.backbone.encode = None  # would fail
    assert np.isfinite(stage.advance())


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """An adaptation on official weights with adapters in their image encoder."""
    home = tmp_path_factory.mktemp("official")
    with pytest.MonkeyPatch.context() as patch:
        use_folder(patch, home)
        make_small(patch)
        weights = imported_official(home)
        cases = checked(write_cases(home / "cases", 2, slices=1))
        settings = replace(QUICK, model="our-vit-b", steps=2, trained=ENCODER, encoder_rank=2)
        result = adapt(cases, "mine", settings, "cpu", keep_anyway=True)
        yield {"weights": weights, "path": result.path, "model": load_model("mine")[0], "settings": settings,
               "again": adapt(cases, "next", replace(settings, model="mine", encoder_rank=0), "cpu", keep_anyway=True),
               "first": begin("our-vit-b", encoder_rank=2).model.state_dict()}  # fmt: skip


@pytest.mark.slow
def test_official_weights_stay_and_adapters_in_their_image_encoder_learn(official):
    assert_unchanged(official["weights"], official["model"].state_dict())
    tensors = read_checkpoint(official["path"])[0]
    assert all(name.startswith("generator.") or "lora_" in name for name in tensors)
    adapters = [name for name in tensors if "image_encoder" in name]
    first = official["first"]
    assert any(not torch.equal(first[name].half(), tensors[name]) for name in adapters if "lora_B" in name)
    assert official["model"].lora_rank == (2, 4)
    assert "adapters in image encoder and mask decoder were trained" in official["path"].with_suffix(".md").read_text()


@pytest.mark.slow
def test_a_generator_with_adapters_in_the_image_encoder_is_a_start_itself(official):
    before, after = read_checkpoint(official["path"])[0], read_checkpoint(official["again"].path)[0]
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before if "image_encoder" in name)


@pytest.mark.slow
def test_without_adapters_in_the_image_encoder_of_official_weights_its_features_are_kept(home, monkeypatch):
    make_small(monkeypatch)
    imported_official(home)
    assert begin("our-vit-b").fitted(replace(QUICK, trained=ENCODER)).trained == ALL
    assert begin("our-vit-b", encoder_rank=2).fitted(replace(QUICK, trained=ENCODER)).trained == ENCODER


def test_a_rank_that_would_change_nothing_is_refused(clinic):
    with pytest.raises(UsageError, match="'small' is not the name of official weights"):
        begin("small", encoder_rank=2)
    with pytest.raises(UsageError, match="encoder_rank is 2; allowed is 0 to 64, and 0 where the image encoder stays"):
        AdaptSettings(trained=ALL, encoder_rank=2)
