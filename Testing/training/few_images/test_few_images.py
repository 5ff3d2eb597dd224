"""Proxy Prompt learned from a few images on a frozen backbone: what is trained, kept, continued and changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import TINY, tiny_model  # noqa: E402
from ProxyPromptSegmentLib.data.cases import Case  # noqa: E402
from ProxyPromptSegmentLib.errors import CancelledError, InputError, UsageError  # noqa: E402
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen  # noqa: E402
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson  # noqa: E402
from ProxyPromptSegmentLib.imaging.metrics import dice  # noqa: E402
from ProxyPromptSegmentLib.inference.segmenter import Segmenter  # noqa: E402
from ProxyPromptSegmentLib.progress import CancelToken  # noqa: E402
from ProxyPromptSegmentLib.resources import resource_path  # noqa: E402
from ProxyPromptSegmentLib.tracking.choices import TrackingMode  # noqa: E402
from ProxyPromptSegmentLib.tracking.tracker import Tracker  # noqa: E402
from ProxyPromptSegmentLib.training.few_images import building, training  # noqa: E402
from ProxyPromptSegmentLib.training.few_images.mask_quality import changed_masks, moved_edges  # noqa: E402
from ProxyPromptSegmentLib.training.few_images.sheets import learned_of  # noqa: E402
from ProxyPromptSegmentLib.training.few_images.system import Choices, FewImages, Trainings  # noqa: E402
from ProxyPromptSegmentLib.training.recipe import read_recipe  # noqa: E402

SIDE = 64
_new = training.new_optimizer
ROBUST = read_recipe(resource_path("recipes/robust.json"))
ROOMY = {key: value for key, value in TINY.items() if key not in ("image_size", "grid", "channels", "reduce")}


def disc(number: int, dataset: str = "discs", patient: str = "") -> Case:
    """A picture with a bright disc, somewhere."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    middle = rng.uniform(22, 42, 2)
    inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < 144
    image = (rng.normal(60, 6, (SIDE, SIDE)) + 90 * inside).astype(np.float32)
    return Case(
        dataset=dataset,
        patient=patient or f"p{number}",
        images=image[None],
        masks=inside[None, None].astype(np.uint8),
        objects=("disc",),
        spacing_mm=None,
        name=f"{dataset}{number}",
    )


@pytest.fixture
def ticks(monkeypatch):
    """A clock of which each look costs a second, so that trainings have as many steps on every machine."""
    now = iter(range(10**6))
    monkeypatch.setattr(training, "training_clock", lambda _: float(next(now)))


@pytest.fixture(scope="module")
def frozen() -> Frozen:
    return Frozen.of(Segmenter(tiny_model(), "cpu"), "tiny")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks of the size of a test."""
    monkeypatch.setattr(building, "COMPACT", dataclasses.replace(building.COMPACT, **ROOMY))
    monkeypatch.setattr(training, "MOST_VARIANTS", 1)


def lesson(count: int = 4, seconds: float = 6.0, **more) -> Lesson:
    return Lesson(few=tuple(disc(n) for n in range(count)), seconds=seconds, threads=1, **more)


def test_generator_and_decoder_learn_and_the_image_encoder_stays(frozen, ticks):
    before = {name: one.clone() for name, one in frozen.segmenter.model.state_dict().items()}
    trainings = Trainings()
    fitted = FewImages(frozen=frozen, trainings=trainings).fit(lesson(3, 3.0))
    masks = fitted.segment(disc(9))
    assert masks.shape == (1, 1, SIDE, SIDE) and masks.dtype == np.uint8
    after = trainings.last[1].state_dict()
    encoder = [name for name in before if ".image_encoder." in name]
    decoder = [name for name in before if ".mask_decoder." in name and before[name].ndim > 1]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder)
    assert any(not torch.equal(before[name], after[name]) for name in decoder)
    now = frozen.segmenter.model.state_dict()
    assert all(torch.equal(before[name], now[name]) for name in before)  # the frozen model itself is not touched


@pytest.mark.slow  # imports SAM 2 and trains on it
def test_with_a_memory_later_frames_are_predicted_with_those_before(ticks, monkeypatch):
    from compared_cases import tiny_tracking

    start, modes = tiny_tracking(), []
    begun = Tracker.__init__
    monkeypatch.setattr(Tracker, "__init__", lambda self, *args: modes.append(args[1]) or begun(self, *args))
    system = FewImages(frozen=start, choices=Choices(memory=True))
    sweep = disc(9)
    sweep = dataclasses.replace(sweep, images=np.repeat(sweep.images, 3, 0), masks=np.repeat(sweep.masks, 3, 0))
    masks = system.fit(lesson(2, 2.0)).segment(sweep)
    assert masks.shape == (3, 1, SIDE, SIDE) and masks.dtype == np.uint8 and modes == [TrackingMode.PROXY_AND_BANK]


@pytest.mark.slow
def test_it_learns_what_the_masks_show(frozen, ticks, monkeypatch):
    losses: list[float] = []
    advance = training.PromptTraining.advance
    monkeypatch.setattr(training.PromptTraining, "advance", lambda self: losses.append(advance(self)))
    choices = Choices(preset="robust", generator={"prompt": "both", "mask_prior": True})
    FewImages(frozen=frozen, choices=choices).fit(lesson(4, 40.0))
    assert np.mean(losses[-8:]) < np.mean(losses[:4]) - 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        Choices(generator={"ccm": False}),
        Choices(generator={"selection": "mean"}),
        Choices(encoder="vit"),
        Choices(encoder="resnet", preset="robust"),
    ],
)
def test_each_ablation_is_built_and_trained(frozen, ticks, choices):
    fitted = FewImages(frozen=frozen, choices=choices).fit(lesson(3, 4.0))
    assert fitted.segment(disc(9)).shape == (1, 1, SIDE, SIDE)
    config = fitted.segmenter.model.generator.config
    assert config.ccm is choices.generator.get("ccm", True)
    assert config.encoder == {"vit": "vit_compact", "resnet": "resnet_compact", "": "vim"}[choices.encoder]


def test_a_row_of_encoders_says_how_large_each_is(frozen):
    sizes = {one: FewImages(frozen=frozen, choices=Choices(encoder=one)).source for one in ("vim", "vit", "resnet")}
    assert len({text.split("encoder of ")[1] for text in sizes.values()}) == 3
    assert "parameters" not in FewImages(frozen=frozen).source


def test_a_training_is_kept_shared_and_continued_after_a_stop(frozen, ticks, tmp_path, monkeypatch):
    trainings = Trainings(tmp_path / "w")
    whole = FewImages(frozen=frozen, trainings=trainings).fit(lesson(3, 3.0)).segmenter.model
    steps = []
    monkeypatch.setattr(training.PromptTraining, "advance", lambda self: steps.append(1))
    again = FewImages(frozen=frozen, trainings=Trainings(tmp_path / "w")).fit(lesson(3, 3.0)).segmenter.model
    changed = FewImages(frozen=frozen, choices=Choices(masks="empty"), trainings=trainings).fit(lesson(3, 3.0))
    assert not steps and len(list((tmp_path / "w").iterdir())) == 1
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert changed.segmenter.model is whole


def test_statistics_of_batch_norms_are_kept_with_the_weights(frozen, tmp_path):
    def begun():
        config = building.generator_config(frozen, building.FEW, {}, "resnet")
        learned = learned_of(lesson(2).few, 16)
        return training.PromptTraining(ROBUST, building.new_model(frozen, config, 0), learned, 1.0)

    first, again = begun(), begun()
    norm = next(one for one in first.model.modules() if isinstance(one, torch.nn.BatchNorm2d))
    norm(torch.randn(2, norm.num_features, 4, 4))
    first.save(tmp_path / "state.safetensors")
    again.resume(tmp_path / "state.safetensors")
    before, after = first.model.state_dict(), again.model.state_dict()
    assert float(norm.num_batches_tracked) == 1
    (tmp_path / "damaged.safetensors").write_bytes(b"what a full disk left")
    again.resume(tmp_path / "damaged.safetensors")  # is trained again
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_other_weights_or_pictures_of_the_same_name_are_another_training(frozen):
    def told_apart(frozen, changed=0.0):
        asked = lesson(2)
        few = tuple(dataclasses.replace(case, images=case.images + changed) for case in asked.few)
        made = FewImages(frozen=frozen)
        return made._identity(asked, ROBUST, {"discs": few})

    other = Frozen.of(Segmenter(tiny_model(1), "cpu"), frozen.name)
    assert told_apart(frozen) == told_apart(frozen)
    assert len({told_apart(frozen), told_apart(other), told_apart(frozen, 1.0)}) == 3


def test_what_was_learned_before_a_cancel_is_not_lost(frozen, ticks, tmp_path, monkeypatch):
    cancel, steps = CancelToken(), []
    advance = training.PromptTraining.advance

    def counted(self):
        steps.append(self.step)
        if len(steps) == 2:
            cancel.cancel()
        return advance(self)

    monkeypatch.setattr(training.PromptTraining, "advance", counted)
    system = FewImages(frozen=frozen, trainings=Trainings(tmp_path))
    with pytest.raises(CancelledError, match="the same call continues it"):
        system.fit(lesson(3, 8.0), cancel=cancel)
    system.fit(lesson(3, 8.0))
    assert steps[:3] == [0, 1, 2] and steps == sorted(set(steps))


def test_other_sets_are_learned_together_and_supports_may_be_others_than_what_is_learned(frozen, ticks):
    other = tuple(disc(n, "rings") for n in range(20, 23))
    mine, trainings = lesson(3, 2.0), Trainings()
    FewImages(frozen=frozen, others={"rings": other}, trainings=trainings).fit(mine)
    first = trainings.last
    rings = Lesson(few=other, seconds=2.0, threads=1)
    FewImages(frozen=frozen, others={"discs": mine.few}, trainings=trainings).fit(rings)
    assert trainings.last is first  # the same sets together are one training
    full = Lesson(few=(disc(50),), full=tuple(disc(n) for n in range(3)), seconds=2.0, threads=1)
    fitted = FewImages(frozen=frozen, choices=Choices(learns_from="full")).fit(full)
    assert len(fitted.support.pairs) == 1
    with pytest.raises(InputError, match="the annotated slices are of 1 patient"):
        FewImages(frozen=frozen).fit(Lesson(few=(disc(1), disc(2, patient="p1")), seconds=2.0, threads=1))


def test_objects_too_thin_for_whole_slices_are_learned_in_tiles():
    thin = np.zeros((1, 1, 512, 512), np.uint8)
    thin[..., ::16, 4:-4] = 1
    images = np.random.default_rng(0).normal(0, 1, (1, 512, 512)).astype(np.float32)
    cases = [
        dataclasses.replace(disc(n), images=images, masks=thin, objects=("vessel",), patient=f"p{n}") for n in range(3)
    ]
    parts = learned_of(cases, 32)
    assert len(parts) == 1 and all(max(sheet.image.shape) < 512 for sheet in parts[0].sheets)
    assert set(parts[0].patients) == {0, 1, 2}


def test_an_object_that_one_patient_alone_shows_is_left_to_the_others():
    whole, thin = (np.zeros((1, 2, 512, 512), np.uint8) for _ in range(2))
    whole[:, 0, 100:400, 100:400] = 1
    thin[:, 1, ::16, 4:-4] = 1
    images = np.random.default_rng(0).normal(0, 1, (1, 512, 512)).astype(np.float32)
    made = {"images": images, "objects": ("organ", "vessel")}
    cases = [
        dataclasses.replace(disc(n), masks=masks, patient=f"p{n}", **made)
        for n, masks in enumerate((whole | thin, thin, thin))
    ]
    parts = learned_of(cases, 32)
    assert len(parts) == 1 and max(parts[0].sheets[0].image.shape) < 512  # the vessels' tiles
    assert set(parts[0].patients) == {0, 1, 2}
    with pytest.raises(InputError, match="give cases of two or more that show the same object"):
        learned_of([dataclasses.replace(cases[0], masks=whole), cases[1]], 32)


@pytest.mark.parametrize("wanted", [0.75, 0.88])
def test_edges_are_moved_until_the_mask_has_the_dice_that_is_wanted(wanted):
    truth = disc(3).masks[0, 0]
    moved = moved_edges(truth, wanted, 5)
    assert dice(truth, moved) == pytest.approx(wanted, abs=0.03)
    assert np.array_equal(moved, moved_edges(truth, wanted, 5)) and not moved_edges(np.zeros_like(truth), 0.5, 0).any()


def test_levels_of_masks_are_empty_drawn_from_boxes_or_the_truth(frozen):
    case = disc(4)
    assert not changed_masks(frozen.segmenter, case, "empty", 0, 0).any()
    assert np.array_equal(changed_masks(frozen.segmenter, case, "truth", 0, 0), case.masks)
    assert changed_masks(frozen.segmenter, case, "box", 0, 0).shape == case.masks.shape
    with pytest.raises(UsageError, match="masks of the quality 'drawn' do not exist"):
        changed_masks(frozen.segmenter, case, "drawn", 0, 0)


@pytest.mark.parametrize("owners", [[0, 1], [0, 0, 1, 1, 2, 2, 2], [3, 3, 3, 1], list(range(12))])
def test_targets_of_a_step_share_supports_of_other_patients_than_theirs(owners):
    patients, rng = np.array(owners), np.random.default_rng(0)
    marked = np.ones(len(patients), bool)
    marked[2:4] = False
    for _ in range(20):
        targets, supports = training.apart(patients, marked, rng.permutation(len(patients)), 4)
        assert 1 <= len(supports) <= 4 and 1 <= len(targets) <= training.TARGETS
        assert marked[supports].all() and len({*targets, *supports}) == len(targets) + len(supports)
        assert not set(patients[targets]) & set(patients[supports])


def test_to_the_letter_each_target_reads_all_other_patients_slices():
    patients, marked = np.array([0, 0, 1, 2, 3]), np.array([True, True, True, True, False])
    targets, picked = training.all_others(patients, marked, np.array([0, 4]), 15, np.random.default_rng(0))
    assert targets.tolist() == [0, 4] and [len(mine) for mine in picked] == [2, 2]
    assert set(picked[0]) == {2, 3} and set(picked[1]) <= {0, 1, 2, 3}


def test_minutes_are_learned_in_with_a_rate_for_minutes(frozen, ticks, monkeypatch):
    rates = []
    monkeypatch.setattr(
        training, "new_optimizer", lambda model, made: rates.append(made.learning_rate) or _new(model, made)
    )
    for preset in (building.FEW, "robust"):
        FewImages(frozen=frozen, choices=Choices(preset=preset)).fit(lesson(3, 3.0))
    assert rates == [1e-3, 1e-4]
