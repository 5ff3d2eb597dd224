"""The command line: what it makes, what it warns of, and its words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import SimpleITK as sitk

from command_cases import COLORS, DONE, GRID, ROOT, TERMS, TURN, Desk, a_case, turned, write_case
from ProxyPromptSegmentLib import __version__, errors
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands.segment_run import match_truth
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume, write_volume
from ProxyPromptSegmentLib.networks import checkpoints

# --- what is segmented ---------------------------------------------------------------------------------------------


def test_the_objects_of_the_support_are_found_in_the_target_with_names_colours_and_terminology(desk, capsys) -> None:
    assert main(desk.words()) == 0
    found = read_segmentation(desk.output)
    assert found.geometry.is_close(GRID, 1e-6)
    assert found.names == ["gland", "stone"]
    for segment, truth in zip(found.segments, desk.truth[1].segments, strict=True):
        assert dice(truth.mask, segment.mask) == 1.0
        assert segment.color_rgb == pytest.approx(COLORS[segment.name], abs=1e-5)
    assert found.segments[0].terminology["type"] == TERMS["type"]
    said = capsys.readouterr()
    assert "gland:" in said.out
    assert "Research use only" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    ("order", "flips"),
    [((0, 1, 2), (1,)), ((0, 1, 2), (0, 2)), ((0, 2, 1), (1, 2)), ((2, 0, 1), (1,)), ((1, 2, 0), ())],
)
def test_a_target_stored_with_other_axes_gets_the_same_anatomy_on_exactly_its_own_oblique_grid(
    desk, order, flips
) -> None:
    oblique = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, GRID.origin_lps, TURN)
    volume, truth = turned(a_case(2, oblique), order, flips)
    target = desk.folder / "turned.nrrd"
    write_volume(target, volume)
    assert main(desk.words(target=target)) == 0
    found = read_segmentation(desk.output)
    assert found.geometry.is_close(read_volume(target).geometry, 1e-6)
    assert not found.geometry.is_close(GRID)
    for segment, marked in zip(found.segments, truth.segments, strict=True):
        assert dice(marked.mask, segment.mask) == 1.0


def test_only_the_named_objects_are_segmented_whatever_the_case_of_the_letters(desk) -> None:
    assert main(desk.words("--object", "STONE")) == 0
    assert read_segmentation(desk.output).names == ["stone"]


def test_two_supports_are_both_used_and_named_in_the_report(desk, capsys) -> None:
    second = write_case(desk.folder, "older", a_case(5, objects=("gland",)))
    assert main(desk.words("--support", *second, "--json")) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert [Path(s["image"]["path"]).name for s in report["inputs"]["supports"]] == ["old.nrrd", "older.nrrd"]
    assert all(s["slices"] for s in report["inputs"]["supports"])
    assert [o["name"] for o in report["objects"]] == ["gland"]
    assert "'stone'" in said.err  # told that only one of them has it


def test_many_supports_are_chosen_by_slice_and_said_or_all_read_if_asked_for(desk, capsys) -> None:
    second = write_case(desk.folder, "older", a_case(5))
    assert main(desk.words("--support", *second, "--json")) == 0
    said = capsys.readouterr()
    assert "Each slice is prompted by those 4 of the 8 support slices that are most like it." in said.err
    assert "With --all-supports each slice reads all of them." in said.err
    assert json.loads(said.out)["settings"]["most_read"] == 4
    assert main(desk.words("--support", *second, "--json", "--force", "--all-supports")) == 0
    said = capsys.readouterr()
    assert "most like it" not in said.err and json.loads(said.out)["settings"]["most_read"] is None


def test_slices_that_were_not_asked_for_stay_empty(desk) -> None:
    assert main(desk.words("--slices", "2:3")) == 0
    mask = read_segmentation(desk.output).segments[0].mask
    assert list(np.flatnonzero(mask.any(axis=(1, 2)))) == [2, 3]


def test_the_support_slices_are_those_that_were_asked_for(desk, capsys) -> None:
    assert main(desk.words("--support-slices", "2,3", "--json")) == 0
    slices = json.loads(capsys.readouterr().out)["inputs"]["supports"][0]["slices"]
    assert [s["slice"] for s in slices] == [2, 3]
    assert slices[0]["objects"] == ["gland", "stone"]


def test_json_alone_is_on_stdout_and_dice_is_in_it(desk, capsys) -> None:
    assert main(desk.words("--json", "--truth", desk.truth_file)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["research_use_only"] is True
    assert [o["dice"] for o in report["objects"]] == [1.0, 1.0]


def test_quiet_says_nothing(desk, capsys) -> None:
    assert main(desk.words("--quiet")) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_pictures_prompt_pictures_and_give_a_picture(desk, capsys) -> None:
    rng = np.random.default_rng(0)
    paths = {}
    for name, column in (("a", 10), ("b", 30)):
        picture, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
        picture[:] = rng.integers(10, 30, picture.shape)
        picture[:2] = 255
        picture[20:30, column : column + 12], mask[20:30, column : column + 12] = 150, 255
        for kind, array in (("image", picture), ("mask", mask)):
            paths[name, kind] = desk.folder / f"{name}_{kind}.png"
            sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 3), str(paths[name, kind]))
    output = desk.folder / "found.png"
    words = desk.words(support=(paths["a", "image"], paths["a", "mask"]), target=paths["b", "image"], output=output)
    assert main(words) == 0
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(output)))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(paths["b", "mask"])))
    assert found.shape == (64, 64)
    assert dice(truth > 0, found > 0) == 1.0
    assert "pixels" in capsys.readouterr().out  # millilitres would be invented


def test_the_compact_network_runs_from_a_real_checkpoint_and_writes_report_and_picture(
    tmp_path, random_checkpoint, capsys
) -> None:
    desk = Desk(tmp_path, str(random_checkpoint))
    extra = ["--report", tmp_path / "r.json", "--preview", tmp_path / "p.png", "--slices", "2:3"]
    assert main(desk.words(*extra)) in DONE
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["model"]["name"] == "random"
    assert report["model"]["sha256"] == checkpoints.sha256(random_checkpoint)
    assert read_segmentation(desk.output).geometry.is_close(GRID, 1e-6)
    assert (tmp_path / "p.png").stat().st_size > 1000


# --- what the user is warned of ------------------------------------------------------------------------------------


def test_a_target_without_anything_like_the_support_is_told(desk, capsys) -> None:
    target = desk.folder / "without.nrrd"
    write_volume(target, a_case(3, objects=())[0])
    assert main(desk.words("--json", target=target)) == EXIT_NOTHING_FOUND
    said = capsys.readouterr()
    assert "Nothing in the target resembles 'gland'" in said.err
    assert f"nothing was found: every segment of {desk.output} is empty (exit code 9)." in said.err
    report = json.loads(said.out)
    assert any("resembles 'stone'" in note for note in report["notes"])
    assert report["state"] == "complete" and report["nothing_found"]
    assert not read_segmentation(desk.output).segments[0].mask.any()


def test_one_object_that_is_found_is_a_success_and_so_is_a_slice_that_was_asked_for(desk, capsys) -> None:
    target = desk.folder / "stone_only.nrrd"
    write_volume(target, a_case(3, objects=("stone",))[0])
    assert main(desk.words("--json", target=target)) == 0
    said = capsys.readouterr()
    assert not json.loads(said.out)["nothing_found"] and "nothing was found" not in said.err
    assert main(desk.words("--slices", "0", "--force")) == EXIT_NOTHING_FOUND  # the objects begin on slice 1


def test_a_support_in_colour_or_of_another_scale_is_told(desk, capsys) -> None:
    volume, marks = a_case(1, VolumeGeometry(GRID.size_ijk, (2.5, 2.5, 3.0)))
    colour = Volume(np.repeat(volume.array[..., None] / 4, 3, axis=3), volume.geometry, "colour")
    image = desk.folder / "colour.nrrd"
    write_volume(image, colour)
    write_segmentation(desk.folder / "colour.seg.nrrd", marks)
    assert main(desk.words(support=(image, desk.folder / "colour.seg.nrrd"))) == 0
    err = capsys.readouterr().err
    assert "in colour" in err
    assert "pixels of 2.5 mm" in err
    assert "160 mm" in err


def test_a_volume_that_prompts_a_picture_is_told(desk, capsys) -> None:
    picture = desk.folder / "picture.png"
    sitk.WriteImage(sitk.GetImageFromArray((a_case(2)[0].array[2] / 4).astype(np.uint8)), str(picture))
    assert main(desk.words(target=picture)) == 0
    assert "is a volume, the target picture a picture" in capsys.readouterr().err


def test_overlaps_that_a_label_map_loses_are_told(desk, capsys) -> None:
    volume, marks = a_case(1)
    both = Segmentation([marks.segments[0], Segment("same", marks.segments[0].mask)], GRID)
    write_segmentation(desk.folder / "both.seg.nrrd", both)
    words = desk.words(support=(desk.support, desk.folder / "both.seg.nrrd"), output=desk.folder / "labels.nii.gz")
    assert main(words) == 0
    assert "belong to several segments" in capsys.readouterr().err


# --- the rest of the command line ----------------------------------------------------------------------------------


def test_help_and_version_are_plain_words(capsys) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "proxyprompt segment --support old.nrrd old.seg.nrrd --target new.nrrd --output new.seg.nrrd" in text
    assert "Research use only" in text
    assert main(["segment", "--help"]) == 0
    assert "dicom_folder" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"proxyprompt {__version__}\n"
    assert main([]) == 0
    assert "getting started" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["paint"], ["segment", "--paint"], ["models", "burn"], ["evaluate", "promise12"]])
def test_wrong_words_are_exit_code_2_and_one_line(words, capsys) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_is_there_before_any_heavy_package_is_imported() -> None:
    code = "import sys; from ProxyPromptSegmentLib.cli import build_parser; build_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "SimpleITK", "slicerio", "PIL", "matplotlib"} & set(loaded.stdout.split())


def test_bad_input_is_refused_by_the_process_without_torch(tmp_path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"x")
    desk = Desk(tmp_path, str(tmp_path / "m.safetensors"))
    code = (
        "import sys; from ProxyPromptSegmentLib.cli import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *desk.words("--object", "liver")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    assert "no object named 'liver'" in done.stderr


def test_models_are_listed_as_text_and_as_json(no_model, capsys) -> None:
    assert main(["models", "list"]) == 0
    assert "sam-compact" in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["installed"] is False


def test_a_union_of_the_support_is_compared_with_the_same_union_of_the_truth(desk, capsys) -> None:
    words = desk.words("--object", "both=gland+stone", "--truth", desk.truth_file, "--json")
    assert main(words) in DONE
    (entry,) = json.loads(capsys.readouterr().out)["objects"]
    assert entry["name"] == "both" and "dice" in entry  # the double knows no unions; that it is compared is the point


def test_a_truth_with_names_that_differ_by_capitals_is_compared_by_the_one_that_is_meant() -> None:
    truth = Segmentation([Segment(name, np.zeros(GRID.shape_kji)) for name in ("Tumor", "tumor", "Cyst")], GRID)
    for number, segment in enumerate(truth.segments):
        segment.mask[number] = 1
    found = match_truth(truth, ("Tumor", "tumor", "cyst"), "truth.seg.nrrd")
    assert [np.flatnonzero(mask.any(axis=(1, 2))).tolist() for mask in found.values()] == [[0], [1], [2]]
    with pytest.raises(errors.UsageError, match="has 2 segments named 'TUMOR'; rename those that are not meant"):
        match_truth(truth, ("TUMOR", "cyst"), "truth.seg.nrrd")
    joined = match_truth(truth, ("tumor", "cyst"), "truth.seg.nrrd", ("tumor=Tumor+Cyst", "cyst"))
    assert np.flatnonzero(joined["tumor"].any(axis=(1, 2))).tolist() == [0, 2]


def test_every_exit_code_is_listed_in_the_help_and_in_the_readme(capsys) -> None:
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes += [kind.exit_code for kind in kinds if issubclass(kind, errors.ProxyPromptError)]
    main(["--help"])
    listed = capsys.readouterr().out.partition("exit codes:")[2]
    table = (ROOT / "README.md").read_text("utf-8").partition("| exit code |")[2].partition("\n\n")[0]
    for code in sorted(set(codes)):
        assert re.search(rf"(^|\s){code} \w", listed), code
        assert f"\n| {code} | " in table, code


@pytest.mark.parametrize("given", [True, False])
def test_the_file_of_the_base_weights_reaches_the_model(desk, monkeypatch, tmp_path, given, capsys) -> None:
    calls, load = [], checkpoints.load_model
    monkeypatch.setattr(checkpoints, "load_model", lambda *words: calls.append(words) or load(*words))
    base = tmp_path / "base.pth"
    if given:
        assert main([*desk.words(), "--base", str(base)]) == 3
        assert "base.pth does not exist" in capsys.readouterr().err and calls == []
        base.write_bytes(b"not read")
    assert main([*desk.words(), *(["--base", str(base)] if given else [])]) == 0
    assert [words[2:] for words in calls] == [(base,) if given else ()]
