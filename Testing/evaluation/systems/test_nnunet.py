"""The bridge to nnU-Net: files, programs, failures, cancelling, with stand-ins of its programs; and nnU-Net itself."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

sitk = pytest.importorskip("SimpleITK")

from compared_cases import check_masks, drawn_case
from ProxyPromptSegmentLib.errors import CancelledError, InputError, ProxyPromptError, UsageError
from ProxyPromptSegmentLib.evaluation.systems import nnunet
from ProxyPromptSegmentLib.evaluation.systems.nnunet import NnUnet
from ProxyPromptSegmentLib.evaluation.systems.nnunet_files import Classes, write_set
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.progress import CancelToken

PREDICT = """
import SimpleITK as sitk
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
image = sitk.ReadImage(given["-i"] + "/target_0000.nii.gz")
sitk.WriteImage(sitk.Cast(image > 165, sitk.sitkUInt8), given["-o"] + "/target.nii.gz")
"""
NOTE = """
import json, os, sys, time
with open(os.environ["SEEN"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.environ["nnUNet_raw"]]) + "\\n")
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Writes stand-ins of nnU-Net's programs that note how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv(nnunet.WHERE, str(folder))

    def write(**bodies):
        for name in (nnunet.PLAN, nnunet.TRAIN, nnunet.PREDICT):
            body = bodies.get(name, PREDICT if name == nnunet.PREDICT else "")
            path = folder / name
            path.write_text(f"#!{sys.executable}\n{NOTE}\n{body}\n")
            path.chmod(0o755)
        return tmp_path / "seen"

    return write


def test_where_it_is_missing_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv(nnunet.WHERE, str(tmp_path))
    with pytest.raises(UsageError, match=r"not installed: .*package nnunetv2 into .* and set PROXYPROMPT_NNUNET"):
        NnUnet().fit(Lesson(few=(drawn_case(1),)))


def test_overlapping_objects_become_classes_and_come_back(tmp_path):
    case = drawn_case(1, slices=3)
    classes = write_set(tmp_path, [case])
    assert classes.combinations == ((0,), (0, 1))
    folder = tmp_path / "nnUNet_raw" / "Dataset001_Compared"
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labelsTr" / "case_0000.nii.gz")))
    np.testing.assert_array_equal(classes.masks(labels), case.masks)
    np.testing.assert_array_equal(labels, case.masks.sum(axis=1))
    said = json.loads((folder / "dataset.json").read_text())
    assert said["labels"] == {"background": 0, "class 1": 1, "class 2": 2} and said["numTraining"] == 1
    image = sitk.ReadImage(str(folder / "imagesTr" / "case_0000_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), case.images)
    colour = replace(case, images=np.repeat(case.images[..., None], 3, axis=-1), spacing_mm=(3.0, 0.5, 0.25))
    write_set(tmp_path / "colour", [colour])
    there = sorted((tmp_path / "colour" / "nnUNet_raw" / "Dataset001_Compared" / "imagesTr").iterdir())
    assert len(there) == 3 and sitk.ReadImage(str(there[2])).GetSpacing() == (0.25, 0.5, 3.0)
    with pytest.raises(InputError, match="grey cases are among coloured"):
        write_set(tmp_path, [case, colour])
    with pytest.raises(InputError, match="none shows an object"):
        Classes.of([replace(case, masks=np.zeros_like(case.masks))])


@pytest.mark.skipif(os.name != "posix", reason="the stand-ins are scripts with an interpreter line")
@pytest.mark.parametrize(("slices", "configuration"), [(1, "2d"), (9, "3d_fullres")])
def test_its_programs_run_in_order_in_folders_of_their_own(programs, tmp_path, slices, configuration):
    epochs = 'print("Epoch 0", flush=True); print("Epoch 3", flush=True); time.sleep(0.5)'
    seen, said = programs(**{nnunet.TRAIN: epochs}), []
    folder = tmp_path / "own"
    system = NnUnet(epochs=5, folder=folder)
    fitted = system.fit(Lesson(few=(drawn_case(1, slices=slices),), threads=1), said.append)
    target = drawn_case(2, slices=slices)
    masks = fitted.segment(target)
    check_masks(masks, target)
    calls = [json.loads(line) for line in seen.read_text().splitlines()]
    assert [call[0] for call in calls] == [nnunet.PLAN, nnunet.TRAIN, nnunet.PREDICT]
    assert calls[1][1][:5] == ["1", configuration, "all", "-tr", "nnUNetTrainer_5epochs"]
    assert {call[2] for call in calls} == {str(folder / "nnUNet_raw")} and 0.6 in said
    np.testing.assert_array_equal(masks[:, 0], target.images > 165)  # class 1, the disc without its core
    assert not [path for path in folder.iterdir() if path.name.startswith("tmp")]


@pytest.mark.skipif(os.name != "posix", reason="the stand-ins are scripts with an interpreter line")
def test_without_a_length_one_epoch_is_timed_and_the_longest_affordable_training_follows(programs):
    assert [nnunet.affordable(left, 2.0) for left in (-1, 1, 11, 2000)] == [1, 1, 5, 1000]
    seen = programs()
    for seconds, trainers in ((0, ["nnUNetTrainer_1epoch"]), (1e6, ["nnUNetTrainer_1epoch", "nnUNetTrainer"])):
        seen.unlink(missing_ok=True)
        NnUnet().fit(Lesson(few=(drawn_case(1),), threads=1, seconds=seconds))
        calls = [json.loads(line) for line in seen.read_text().splitlines()]
        assert [call[1][4] for call in calls if call[0] == nnunet.TRAIN] == trainers


@pytest.mark.skipif(os.name != "posix", reason="the stand-ins are scripts with an interpreter line")
def test_a_failure_is_said_with_what_it_printed_and_a_cancel_ends_its_processes(programs, tmp_path):
    lesson, pids = Lesson(few=(drawn_case(1),), threads=1), tmp_path / "pids"
    programs(**{nnunet.TRAIN: 'print("no plans file"); sys.exit(3)'})
    with pytest.raises(ProxyPromptError, match="nnUNetv2_train failed with code 3: no plans file"):
        NnUnet(epochs=1).fit(lesson)
    programs(
        **{
            nnunet.TRAIN: "import subprocess; other = subprocess.Popen(['sleep', '60']);"
            f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}'); time.sleep(60)"
        }
    )
    cancel = CancelToken()

    def when_begun():
        while not (pids.is_file() and pids.read_text().count(" ")):
            time.sleep(0.02)
        cancel.cancel()

    threading.Thread(target=when_begun, daemon=True).start()
    with pytest.raises(CancelledError, match="while nnUNetv2_train ran"):
        NnUnet(epochs=1).fit(lesson, cancel=cancel)
    for pid in pids.read_text().split():
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and _alive(int(pid)):
            time.sleep(0.02)
        assert not _alive(int(pid))
    with pytest.raises(UsageError, match="no trainer of 7 epochs"):
        NnUnet(epochs=7).fit(lesson)
    with pytest.raises(UsageError, match="no training cases"):
        NnUnet(full=True).fit(lesson)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_nnunet_itself_learns_and_segments_where_it_is_installed():
    if shutil.which(nnunet.TRAIN, path=os.environ.get(nnunet.WHERE)) is None:
        pytest.skip("nnU-Net v2 is not installed; set PROXYPROMPT_NNUNET to the folder of its programs")
    few, target = tuple(drawn_case(number, shift=number) for number in range(3)), drawn_case(9)
    check_masks(NnUnet(epochs=1).fit(Lesson(few=few, threads=1)).segment(target), target)
