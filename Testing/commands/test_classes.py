"""`segment --class`: structures that a model knows by name, from the command line's first word to its files."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image

from command_cases import DONE, GRID, a_case, write_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.networks.checkpoints import save_checkpoint
from ProxyPromptSegmentLib.networks.image_prompt.config import COMPACT, legacy
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.weights.own import register
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

CLASSES = (
    PromptClass(
        "gland", code="41216001", meaning="Prostate", color_rgb=(0.9, 0.6, 0.3), synonyms=("prostate", "salivary gland")
    ),
    PromptClass("polyp", modalities=("endoscopy",)),
)


def checkpoint(path, classes=CLASSES, change=lambda config: config, name="glands", seed=0):
    """Write a compact AutoSAM with random weights."""
    torch.manual_seed(seed)
    model = build_model("sam-compact", change(dataclasses.replace(COMPACT, classes=classes)))
    metadata = {"name": name, "model": model.describe(), "kind": "model", "entry": {"licence": "Apache-2.0"}}
    save_checkpoint(path, {key: value.half() for key, value in model.state_dict().items()}, metadata)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("weights") / "glands.safetensors")


@pytest.fixture(scope="module")
def legacy_weights(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("weights") / "legacy.safetensors", change=legacy)


@pytest.fixture
def target(tmp_path):
    return write_case(tmp_path, "new", a_case(2))[0]


def words(target, output, *more):
    return [str(word) for word in ("segment", "--target", target, "--output", output, "--device", "cpu", *more)]


def test_a_class_is_segmented_twice_with_the_same_bits_and_its_name_colour_and_code(weights, target, tmp_path, capsys):
    once, twice = tmp_path / "a.seg.nrrd", tmp_path / "b.seg.nrrd"
    extra = ("--model", weights, "--class", "Prostate", "--threshold", "0.01")
    report, preview = tmp_path / "a.json", tmp_path / "a.png"
    assert main(words(target, once, *extra, "--report", report, "--preview", preview)) in DONE
    assert main(words(target, twice, *extra)) in DONE
    first, second = read_segmentation(once), read_segmentation(twice)
    assert first.names == ["gland"] and first.geometry.is_close(GRID, 1e-6)
    np.testing.assert_array_equal(first.segments[0].mask, second.segments[0].mask)
    assert first.segments[0].color_rgb == pytest.approx((0.9, 0.6, 0.3), abs=1e-5)
    assert first.segments[0].terminology["type"] == ["SCT", "41216001", "Prostate"]
    said = json.loads(report.read_text())
    assert said["inputs"]["supports"] == [] and said["settings"]["classes"] == ["Prostate"]
    assert said["inputs"]["asked"] == [{"name": "gland", "code": ["SCT", "41216001", "Prostate"], "ruled_out": False}]
    assert preview.stat().st_size > 1000
    assert "support" not in capsys.readouterr().err


def test_legacy_finds_something_everywhere_and_all_of_few_classes_are_looked_for(legacy_weights, target, tmp_path):
    output = tmp_path / "a.seg.nrrd"
    assert main(words(target, output, "--model", legacy_weights, "--each-slice-alone", "--any-modality")) == 0
    found = read_segmentation(output)
    assert found.names == ["gland", "polyp"]
    assert all(segment.mask.any(axis=(1, 2)).all() for segment in found.segments)


def test_a_class_that_the_image_cannot_show_is_answered_with_nothing_and_a_sentence(
    legacy_weights, target, tmp_path, capsys
):
    output = tmp_path / "a.seg.nrrd"
    assert main(words(target, output, "--model", legacy_weights, "--class", "polyp")) == EXIT_NOTHING_FOUND
    assert not read_segmentation(output).segments[0].mask.any()
    said = capsys.readouterr().err
    assert "'polyp' shows in endoscopy, and the target new is grey: it is not looked for" in said
    assert "--any-modality" in said and "--threshold" not in said


def test_the_model_that_knows_a_class_is_found_and_an_unknown_class_lists_the_nearest(
    weights, target, tmp_path, capsys, home
):
    register(weights, "glands")
    output = tmp_path / "a.seg.nrrd"
    asked = ("--slices", "2", "--json", "--force")
    for name, model in (("salivary gland", "glands"), ("prostate", "classes-compact")):  # the program's own comes first
        assert main(words(target, output, "--class", name, *asked)) in (*DONE, EXIT_NOTHING_FOUND)
        assert json.loads(capsys.readouterr().out)["model"]["name"] == model
    assert main(words(target, tmp_path / "b.seg.nrrd", "--class", "glans")) == 2
    said = capsys.readouterr().err
    assert "knows the class 'glans'" in said and "gland" in said
    assert main(["models", "list", "glands"]) == 0
    assert "gland (SCT 41216001), polyp" in capsys.readouterr().out


WRONG = {
    "neither support nor class": ([], "or name what a model knows by itself with --class NAME"),
    "a class of a model of supports": (["--model", "sam-compact", "--class", "gland"], "it is prompted by a support"),
    "an unknown class of a model": (["--model", "WEIGHTS", "--class", "liver"], "it knows gland, polyp"),
    "a support for a model of classes": (
        ["--model", "WEIGHTS", "--support", "TARGET", "MASK"],
        "it knows gland, polyp by name. Leave out --support and choose with --class",
    ),
    "both": (["--model", "WEIGHTS", "--class", "gland", "--support", "TARGET", "MASK"], "give one of the two"),
    "objects of no support": (["--model", "WEIGHTS", "--object", "gland"], "name structures with --class"),
    "tiles without a support": (["--model", "WEIGHTS", "--class", "gland", "--tiles", "2"], "--tiles needs a support"),
    "slices of no support": (["--model", "WEIGHTS", "--support-slices", "2"], "given 1 times for 0 supports"),
    "a slice beyond the target": (["--model", "WEIGHTS", "--class", "gland", "--slices", "9"], "its slices are 0 to 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words_are_usage_errors_that_say_what_to_do(case, weights, target, tmp_path, capsys):
    given, said = WRONG[case]
    names = {"WEIGHTS": weights, "TARGET": target, "MASK": tmp_path / "new.seg.nrrd"}
    assert main(words(target, tmp_path / "a.seg.nrrd", *(names.get(word, word) for word in given))) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a.seg.nrrd").exists()


def test_a_model_of_many_classes_wants_to_hear_which(target, tmp_path, capsys):
    many = checkpoint(tmp_path / "many.safetensors", tuple(PromptClass(f"part {n}") for n in range(6)))
    assert main(words(target, tmp_path / "a.seg.nrrd", "--model", many)) == 2
    assert "knows 6 classes; name those to look for with --class: part 0, part 1" in capsys.readouterr().err


# --- frames one by one ---------------------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path):
    """A folder of three frames in colour, of which the second cannot be read."""
    folder = tmp_path / "clip"
    folder.mkdir()
    chance = np.random.default_rng(3)
    for n in range(3):
        Image.fromarray(chance.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / f"{n}.png")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:50])
    return folder


def test_frames_are_segmented_one_by_one_and_each_as_it_is_alone(legacy_weights, frames, tmp_path, capsys):
    output, report = tmp_path / "masks", tmp_path / "clip.json"
    given = ["track", "--model", legacy_weights, "--class", "polyp", "--target", frames, "--output", output]
    assert main([str(word) for word in (*given, "--report", report, "--device", "cpu")]) == 0
    said = json.loads(report.read_text())
    assert said["frames_done"] == [0, 2] and [one["frame"] for one in said["frames_skipped"]] == [1]
    assert said["inputs"]["supports"] == [] and said["inputs"]["asked"][0]["name"] == "polyp"
    shown = capsys.readouterr()
    assert "memory" not in shown.out and "Tracking continued" not in shown.err
    single = tmp_path / "single.png"
    assert main(words(frames / "2.png", single, "--model", legacy_weights, "--class", "polyp")) == 0
    masks = sorted(output.glob("*2*.png"))
    # Windows of the clip come from its first frame, and noise fills the whole range in both.
    alone, tracked = (np.asarray(Image.open(path)) > 0 for path in (single, masks[0]))
    assert (alone == tracked).mean() > 0.99


def test_a_clip_without_colours_has_no_polyps_and_a_volume_is_not_tracked_without_a_support(
    legacy_weights, frames, target, tmp_path, capsys
):
    for path in frames.glob("*.png"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 64), np.uint8)).save(path)
    given = ["track", "--model", legacy_weights, "--class", "polyp", "--output", tmp_path / "masks", "--device", "cpu"]
    assert main([str(word) for word in (*given, "--target", frames)]) == EXIT_NOTHING_FOUND
    assert "is grey: it is not looked for" in capsys.readouterr().err
    given[-3] = tmp_path / "volume.seg.nrrd"
    assert main([str(word) for word in (*given, "--target", target)]) == 2
    assert "use `proxyprompt segment --class`" in capsys.readouterr().err
