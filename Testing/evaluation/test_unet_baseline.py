"""The U-Net to compare with: it trains on the parts that it is told, says so, and never on test patients."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from optional_packages import needs_monai
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.errors import CheckpointError, InputError
from ProxyPromptSegmentLib.evaluation import unet_baseline as module

pytestmark = needs_monai


def case(name):
    """Two slices with a bright square."""
    images = np.full((2, 32, 32), 40.0, np.float32) + np.random.default_rng(len(name)).normal(0, 3, (2, 32, 32))
    masks = np.zeros((2, 1, 32, 32), np.uint8)
    masks[:, :, 8:24, 8:24] = 1
    return Case(
        dataset="promise12",
        patient=name,
        images=(images + 90 * masks[:, 0]).astype(np.float32),
        masks=masks,
        objects=("prostate",),
        spacing_mm=None,
        name=name,
    )


@pytest.fixture
def data(monkeypatch, tmp_path):
    made = Split(train=[case("a"), case("bb")], validation=[case("ccc")], test=[case("dddd")])
    monkeypatch.setattr(module, "load_dataset", lambda root, name: [])
    monkeypatch.setattr(module, "split", lambda cases, name: made)
    return tmp_path


@pytest.mark.parametrize(
    ("parts", "patients"), [(("train",), ["a", "bb"]), (("train", "validation"), ["a", "bb", "ccc"])]
)
def test_it_trains_on_the_parts_that_it_is_told_and_says_so(data, parts, patients):
    weights = module.train_unet(data, data / "out", minutes=0.003, parts=parts)
    about = json.loads((data / "out" / "unet.json").read_text())
    assert about["train_patients"] == patients
    assert about["validation_was_trained_on"] == ("validation" in parts)
    assert module.describe_unet(weights) == f"U-Net (monai), {len(patients)} patients, 0.003 min"
    assert module.predict_volume(module.load_unet(weights), case("e").images).shape == (2, 32, 32)


@pytest.mark.parametrize("parts", [("train", "test"), ()])
def test_test_patients_are_refused(data, parts):
    with pytest.raises(InputError, match="allowed: train, validation"):
        module.train_unet(data, data / "out", minutes=0.01, parts=parts)
    assert not (data / "out").exists()


def test_a_file_that_is_no_network_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "unet.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"cannot be read: .* Train it again"):
        module.describe_unet(tmp_path / "unet.safetensors")
