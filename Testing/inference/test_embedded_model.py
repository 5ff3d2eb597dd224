"""The checkpoint that comes with the program is the one that the registry names, and it segments."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from drawn_data import drawn_prostate_case
from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.data.splits import Split, split
from ProxyPromptSegmentLib.evaluation.conditions import prepare_emptied
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.networks.checkpoints import load_model, sha256
from ProxyPromptSegmentLib.support.pairs import support_from_volume
from ProxyPromptSegmentLib.weights.registry import checkpoint_of, models_folder, read_registry, resolve


@pytest.fixture(scope="module")
def segmenter():
    return load("sam-compact", "cpu").segmenter


def test_every_entry_of_the_registry_has_its_file_its_hash_its_size_and_its_card():
    for entry in read_registry():
        path = checkpoint_of(entry)
        assert entry.sha256 == sha256(path), entry.name
        assert entry.bytes == path.stat().st_size
        assert entry.licence and entry.description and entry.citation
        card = (models_folder() / f"{entry.name}.md").read_text(encoding="utf-8")
        assert "Research use only" in card and "PROMISE12" in card


def test_the_checkpoint_says_how_it_was_trained():
    metadata = load_model(*resolve("sam-compact"))[1]
    assert metadata["recipe"] and metadata["steps"] > 0


def test_one_phantom_segments_another(segmenter):
    support = support_from_volume(*pelvis_phantom(11), ["prostate"], None, "k", 4)
    target, truth = pelvis_phantom(12)
    result = segmenter.segment(target.array, support)
    assert dice(truth.segments[0].mask, result.masks()[:, 0]) > 0.6


@pytest.mark.parametrize("source", ["drawn", "public"])
def test_the_prompt_decides(segmenter, source, request):
    """Supports of other patients find the prostate of test patients; the same images with nothing marked do not."""
    if source == "drawn":
        drawn = [drawn_prostate_case(seed) for seed in (11, 12, 13, 14, 15)]
        parts = Split(train=drawn[:4], validation=[], test=drawn[4:])
    else:
        parts = split(load_dataset(request.getfixturevalue("shared_data"), "promise12"), "promise12")
    scores, emptied = [], []
    for case in parts.test[:1]:
        case = replace(case, images=case.images[::2], masks=case.masks[::2])
        support, _ = draw_supports(parts.train, case, 4, seed=7)
        encoded = {}
        found = segmenter.segment(case.images, support, encoded=encoded).masks()
        nothing = segmenter.segment(case.images, prepare_emptied(segmenter, support), encoded=encoded).masks()
        scores.append(dice(case.masks[:, 0], found[:, 0]))
        emptied.append(dice(case.masks[:, 0], nothing[:, 0]))
    assert sum(scores) / len(scores) > 0.6
    assert sum(emptied) / len(emptied) < 0.2
