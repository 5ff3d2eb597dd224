"""The embedded AutoSAM models: on a fresh machine each draws its structure without a support, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image

from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.weights.classes import models_with_classes
from ProxyPromptSegmentLib.weights.registry import checkpoint_of, read_registry

MODELS = {"autosam-polyp": "kvasir_polyp", "autosam-fundus": "drishti_gs", "autosam-nuclei": "dsb2018_nuclei"}
MOST_BYTES = 4_000_000  # of all embedded models that need no support


def segmented(folder, image: np.ndarray, model: str) -> tuple[int, np.ndarray]:
    """Segment a picture with the command, and return its exit code and the labels."""
    target, output = folder / "target.png", folder / "found.png"
    Image.fromarray(image).save(target)
    words = ["segment", "--model", model, "--target", target, "--output", output, "--device", "cpu", "--any-modality"]
    code = main([str(word) for word in words])
    return code, np.asarray(Image.open(output)) if output.is_file() else np.zeros(image.shape[:2], np.uint8)


def test_what_needs_no_support_is_small_and_the_model_of_many_classes_is_asked_first():
    entries = {entry.name: entry for entry in read_registry()}
    assert sum(checkpoint_of(entries[name]).stat().st_size for name in (*MODELS, "classes-compact")) < MOST_BYTES
    knowing = [one.model for one in models_with_classes()]
    assert knowing.index("classes-compact") < min(knowing.index(name) for name in MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_a_picture_that_shows_nothing_is_answered_with_nothing(model, home):
    noise = np.random.default_rng(1).normal(120, 12, (96, 128, 3)).clip(0, 255).astype(np.uint8)
    code, found = segmented(home, noise, model)
    assert code == EXIT_NOTHING_FOUND and not found.any()


@pytest.mark.parametrize("model", MODELS)
def test_a_validation_patient_is_segmented_without_a_support(model, home, shared_data):
    case = load_parts(shared_data, MODELS[model]).validation[-1]
    code, found = segmented(home, case.images[0].astype(np.uint8), model)
    assert code == 0
    assert dice(case.masks[0].any(axis=0), found > 0) > 0.6
