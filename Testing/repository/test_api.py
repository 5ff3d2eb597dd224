"""The public API: its names, when they are loaded, and the examples of Docs/api.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ProxyPromptSegmentLib as package

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "Docs" / "api.md"


def examples() -> list[str]:
    """The Python blocks of the page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def cases(tmp_path, monkeypatch) -> Path:
    """The files that the examples read, in the working folder."""
    from PIL import Image

    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

    monkeypatch.chdir(tmp_path)
    for seed, name in ((1, "earlier_case"), (2, "new_case")):
        volume, marks = pelvis_phantom(seed, (12, 48, 48))
        package.write_volume(f"{name}.nrrd", volume)
        package.write_segmentation("earlier_case.seg.nrrd" if seed == 1 else "truth.seg.nrrd", marks)
    middle = marks.segments[0].mask.any(axis=(1, 2)).nonzero()[0].mean().astype(int)
    Path("sweep").mkdir()
    slices = np.clip(volume.array / volume.array.max() * 255, 0, 255).astype(np.uint8)
    for number in range(4):
        Image.fromarray(slices[middle + number - 2]).save(f"sweep/frame{number}.png")
    Image.fromarray(slices[middle]).save("frame.png")
    Image.fromarray(marks.segments[0].mask[middle] * 255).save("mask.png")
    return tmp_path


def test_the_examples_of_the_page_run(cases, monkeypatch, capsys) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sam2")
    names: dict[str, object] = {}
    blocks = examples()
    assert len(blocks) >= 7
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "review slice" in said and "no such segment" in said
    assert Path("new_case.seg.nrrd").is_file() and Path("sweep.seq.nrrd").is_file()
    made = package.read_segmentation("new_case.seg.nrrd")
    truth = package.read_segmentation("truth.seg.nrrd")
    assert package.dice(truth.segments[0].mask, made.segments[0].mask) > 0.4


@pytest.fixture
def opened(cases):
    """A support and frames as `open_frames` opens them, from the files of the examples."""
    return package.read_support_case("frame.png", "mask.png"), package.open_frames("sweep")


@pytest.mark.parametrize(("numbers", "said"), [([], "no frame was requested"), ([-1, 2], "frame -1 was requested")])
def test_frames_that_do_not_exist_are_refused_in_a_sentence(opened, numbers, said) -> None:
    pytest.importorskip("sam2")
    support, frames = opened
    with pytest.raises(package.ProxyPromptError, match=said):
        package.load_model("sam2-compact", "cpu").follow([support], frames, numbers=numbers)


@pytest.mark.parametrize("name", ["nothing.seq.nrrd", "nothing.seg.nrrd", "nothing"])
def test_a_run_that_was_cancelled_before_its_first_frame_has_nothing_to_write(opened, name) -> None:
    pytest.importorskip("sam2")
    support, frames = opened
    cancel = package.CancelToken()
    cancel.cancel()
    found = package.load_model("sam2-compact", "cpu").follow([support], frames, cancel=cancel)
    assert found.cancelled and not found.seen
    with pytest.raises(package.ProxyPromptError, match="no frame was done"):
        package.write_frames(name, found, frames)
    assert not Path(name).exists()


def test_one_name_is_one_object_and_a_threshold_is_a_probability(cases) -> None:
    pytest.importorskip("torch")
    model = package.load_model("sam-compact", "cpu")
    support = package.read_support_case("earlier_case.nrrd", "earlier_case.seg.nrrd")
    target = package.read_volume("new_case.nrrd")
    assert model.segment([support], target, "prostate", slices=[10]).objects == ("prostate",)
    for threshold in (0.0, 1.0, 2.0, float("nan")):
        with pytest.raises(package.ProxyPromptError, match="between 0 and 1"):
            model.segment([support], target, threshold=threshold)


def test_the_package_offers_what_the_api_has() -> None:
    from ProxyPromptSegmentLib import api

    assert package.__all__ == api.__all__
    for name in package.__all__:
        assert getattr(package, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        _ = package.segment_everything


def test_every_name_is_on_the_page_and_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in package.__all__ if not re.search(rf"\b{name}\b", text)] == []
    assert all(getattr(package, name).__doc__ for name in package.__all__)


def test_the_api_loads_no_torch_until_a_model_is_loaded() -> None:
    code = (
        "import sys, ProxyPromptSegmentLib as p; names = [getattr(p, name) for name in p.__all__]; "
        "print([m for m in ('torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_files_are_named_by_texts_too() -> None:
    import inspect

    listed = {name: getattr(package, name) for name in package.__all__}
    functions = [one for one in listed.values() if inspect.isfunction(one)]
    functions += [one for kind in listed.values() if inspect.isclass(kind) for one in vars(kind).values()]
    files = [
        (one.__qualname__, each)
        for one in functions
        if inspect.isfunction(one) and not one.__name__.startswith("_")
        for each in inspect.signature(one).parameters.values()
        if "Path" in str(each.annotation)
    ]
    assert len(files) > 8 and [one for one in files if "str" not in str(one[1].annotation)] == []


def test_what_a_wrong_support_is_refused_with_names_the_file_given_as_text(cases) -> None:
    volume = package.read_volume("new_case.nrrd")
    package.write_volume("empty.nrrd", package.Volume(np.zeros_like(volume.array), volume.geometry))
    with pytest.raises(package.ProxyPromptError, match="mask empty.nrrd is empty"):
        package.read_support_case("new_case.nrrd", "empty.nrrd")
