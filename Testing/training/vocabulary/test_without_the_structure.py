"""Images that show none of the structures: squares beside them, sets of other kinds, and the threshold of presence."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from described_discs import write_discs

torch = pytest.importorskip("torch")

from engine_doubles import tiny_backbone  # noqa: E402
from ProxyPromptSegmentLib.data.bare import LEAST, bare_square  # noqa: E402
from ProxyPromptSegmentLib.evaluation.broad.records import ScoreFile  # noqa: E402
from ProxyPromptSegmentLib.evaluation.left_empty import BARE, LEGACY, SEEN, measure_empty, sets_in  # noqa: E402
from ProxyPromptSegmentLib.evaluation.without_support import MODEL, ClassPlan, Lesson  # noqa: E402
from ProxyPromptSegmentLib.evaluation.without_support_table import classes_table  # noqa: E402
from ProxyPromptSegmentLib.inference.segmenter import Segmenter  # noqa: E402
from ProxyPromptSegmentLib.networks.image_prompt.config import ImagePromptConfig  # noqa: E402
from ProxyPromptSegmentLib.networks.image_prompt.generator import ImagePromptGenerator  # noqa: E402
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.features import embed  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.presence_fit import _fit, fit_presence  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary.recipe import TaughtClass, VocabularyRecipe  # noqa: E402
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass  # noqa: E402

RECIPE = VocabularyRecipe(
    kind="image",
    classes=(TaughtClass(about=PromptClass("disc"), sets={"discs": ("disc",)}),),
    others=("balls",),
    variants=2,
    bare=1.0,
    most_others=2,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_discs(folder / "discs", 4, validation=["case2"], test=["case3"])
    write_discs(folder / "balls", 4, name="balls", validation=["case2"], test=["case3"])
    return folder


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ImagePromptConfig(
        image_size=64, grid=8, channels=32, read_size=64, width=8, classes=(PromptClass("disc"),), surrogate=False
    )
    return ProxyPromptModel(tiny_backbone(), ImagePromptGenerator(config)).eval()


@pytest.fixture(scope="module")
def kept(data, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    keep = model.generator.keep
    train = embed(RECIPE, data, folder, model.backbone, "0" * 64, keep=keep)
    return train, embed(RECIPE, data, folder, model.backbone, "0" * 64, keep=keep, part="validation")


def test_a_square_beside_an_object_shows_none_of_it_and_all_of_it_is_image():
    marked, content = np.zeros((2, 90, 120), bool)
    marked[30:50, 40:70], content[:, :110] = True, True
    for seed in range(20):
        rows, columns = bare_square(marked, content, np.random.default_rng(seed))
        assert rows.stop - rows.start == columns.stop - columns.start >= LEAST
        assert not marked[rows, columns].any() and content[rows, columns].all()
    assert bare_square(np.ones_like(marked), content, np.random.default_rng(0)) is None


def test_squares_without_the_object_are_learned_from_and_others_have_fewer_variants(kept):
    train, held = kept
    assert [one.dataset for one in train] == ["discs", "balls", "discs", "balls", "discs"]
    for one in train:
        shown = one.shown.any(axis=1)
        if one.dataset == "balls":
            assert len(shown) == 2
        else:
            assert shown[:2].all() and len(shown) > 2 and not shown[2:].any()
            assert not one.get("masks", 2).any()
    assert {one.dataset for one in held} == {"discs", "balls"} and all(len(one.shown) <= 2 for one in held)
    assert train[0].read(0).ndim == 1  # what the trunk made of it


def test_the_threshold_keeps_images_without_the_object_empty_and_is_in_the_middle():
    found = _fit("disc", torch.tensor([3.0, 4.0, 5.0]), torch.tensor([-2.0, -1.0, 1.0]), 0.97)
    assert 1 < found.threshold < 3 and (found.shown, found.empty, found.images) == (1, 1, (3, 3))
    worse = _fit("disc", torch.tensor([0.0, 4.0, 5.0]), torch.tensor([-2.0] * 9 + [4.5]), 0.97)
    assert worse.threshold > 4.5 and worse.empty == 1  # as asked for, whatever it costs
    assert _fit("disc", torch.tensor([1.0]), torch.zeros(0), 0.9).threshold == 0


def test_presence_is_fitted_on_images_of_both_kinds(kept, model):
    (found,) = fit_presence(model, kept[1], dataclasses.replace(RECIPE, kept_empty=0.9))
    assert found.name == "disc" and found.images == (1, len(kept[1][0].shown) - 1 + 1) and found.empty >= 0.9


def test_what_is_left_empty_is_measured_beside_legacy_which_leaves_nothing_empty(data, model, tmp_path):
    recipe = json.loads(json.dumps(RECIPE.to_dict()))
    with torch.no_grad():
        model.generator.encoder.presence[2].bias.fill_(-30)
    lesson = Lesson.of({"recipe": recipe})
    file = ScoreFile(tmp_path / "scores.jsonl", {})
    plan = ClassPlan(data=data, part="test")
    assert sets_in(data) == []  # neither a manifest nor a set that the program knows
    assert lesson.others == ("balls",)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ProxyPromptSegmentLib.evaluation.left_empty.sets_in", lambda _: ["discs", "balls"])
        measure_empty(Segmenter(model, "cpu"), lesson, plan, file)
    found = {(r.object, r.method): r.score for r in file.scores.records}
    assert found == {(BARE, MODEL): 1, (BARE, LEGACY): 0, (SEEN, MODEL): 1, (SEEN, LEGACY): 0}
    text = classes_table(file.scores.records)
    assert "| images without the structure | n | model, left empty | legacy, left empty |" in text
    assert "| all of them | 2 | 1.000 [n = 2] | 0.000 [n = 2] |" in text
