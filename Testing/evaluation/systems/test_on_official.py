"""Systems on official weights with SAM's own ViT, small and of random values: found by name or file, not changed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks, drawn_case, drawn_lesson
from official_cases import imported_official, make_small, official_file
from ProxyPromptSegmentLib.evaluation.systems.adapters import QueryValueLora
from ProxyPromptSegmentLib.evaluation.systems.catalogue import systems_for
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.samed import SamedNetwork


@pytest.fixture
def by_name(home, monkeypatch):
    make_small(monkeypatch, "medsam-vit-b")
    return imported_official(home, "our-medsam", "medsam-vit-b"), Frozen("our-medsam")


def test_official_weights_are_found_by_their_name_and_stay_as_they_are(by_name):
    official, frozen = by_name
    assert frozen.backbone == "medsam-vit-b" and not frozen.compact
    target = drawn_case(3, side=40)
    for key in ("medsam-box", "samed", "med-sa-box", "persam"):
        system = systems_for(frozen, [key])[key]
        check_masks(system.fit(drawn_lesson(1)).segment(target), target)
        assert "stands in" not in system.source, "MedSAM itself"
    state = frozen.segmenter.model.backbone.sam.state_dict()
    assert set(state) == set(official) and all(torch.equal(state[name], one) for name, one in official.items())
    lora = [
        one for one in SamedNetwork(frozen.segmenter.model.backbone, 1).modules() if isinstance(one, QueryValueLora)
    ]
    assert len(lora) == 2, "one in each block of this ViT"


def test_a_file_of_official_weights_is_loaded_as_the_backbone_that_it_fits(tmp_path, home, monkeypatch):
    make_small(monkeypatch)
    tensors = official_file(tmp_path / "weights.pth")
    frozen = Frozen(str(tmp_path / "weights.pth"), fits="sam-vit-b")
    state = frozen.segmenter.model.backbone.sam.state_dict()
    assert all(torch.equal(state[name], one) for name, one in tensors.items())
    target = drawn_case(3, side=40)
    assert systems_for(frozen, ["sam-point"])["sam-point"].name == "SAM, 1 point"
    check_masks(systems_for(frozen, ["sam-point"])["sam-point"].fit(drawn_lesson(1)).segment(target), target)
