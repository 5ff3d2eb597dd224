"""Tasks: which targets and supports a set has in each part."""

from __future__ import annotations

import numpy as np
import pytest

from broad_cases import BroadFolder, spots, square
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.data.cases import PATIENTS_UNKNOWN, Case
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.broad.tasks import FIRST_SETS, set_names, spread, tasks_of


@pytest.fixture
def folder(tmp_path, monkeypatch) -> BroadFolder:
    """Volumes of one first set, a small set of two objects of which one image lacks one, and one never trained on."""
    monkeypatch.setitem(splits.COUNTS, "promise12", (3, 1))
    made = BroadFolder(tmp_path / "data")
    for n in range(6):
        made.add_volume("promise12", f"case{n}", square(seed=n))
    for n in range(12):
        levels = (200, 0) if n == 11 else (200, 120)
        made.add_picture("toy", f"i{n:02d}", spots(levels, n), "1 cell; 2 core", "test" if n > 8 else "train")
    for n in range(4):
        made.add_picture("kept", f"k{n}", spots((200,), n), "1 spleen", "unseen")
    return made


def test_a_first_set_has_the_targets_of_its_part_and_training_patients_as_supports(folder):
    parts = splits.split_patients([f"case{n}" for n in range(6)], "promise12")
    for part, count in (("validation", 1), ("test", 2)):
        (task,) = tasks_of(folder.path, ["promise12"], part)
        assert [case.patient for case in task.targets] == parts[part] and len(task.targets) == count
        assert sorted(case.patient for case in task.pool) == parts["train"]


def test_a_small_set_asks_for_each_object_on_the_images_that_show_it(folder):
    cell, core = tasks_of(folder.path, ["toy"], "test")
    assert (cell.objects, core.objects) == (("cell",), ("core",)) and cell.small
    assert [case.name for case in cell.targets] == ["i09", "i10", "i11"]
    assert [case.name for case in core.targets] == ["i09", "i10"] and core.targets[0].objects == ("core",)
    assert core.targets[0].masks[0, 0, 25, 30] == 1 and core.targets[0].masks[0, 0, 25, 10] == 0
    held = {case.name for task in tasks_of(folder.path, ["toy"], "validation") for case in task.targets}
    pool = {case.name for case in cell.pool}
    assert held and pool and not held & pool and held | pool == {f"i{n:02d}" for n in range(9)}


def test_a_set_that_is_never_trained_on_supports_itself_and_only_in_the_test(folder):
    (task,) = tasks_of(folder.path, ["kept"], "test")
    assert [case.name for case in task.targets] == [case.name for case in task.pool] == ["k0", "k1", "k2", "k3"]
    assert list(tasks_of(folder.path, ["kept"], "validation")) == []


def test_sets_are_chosen_by_name_or_group_and_missing_ones_have_no_task(folder):
    assert set_names(folder.path, ["small", "promise12", "toy"]) == ["kept", "toy", "promise12"]
    assert set_names(folder.path)[0] == "promise12" and set_names(folder.path)[-1] == "toy"
    assert [task.dataset for task in tasks_of(folder.path, ["acdc", "promise12"], "test")] == ["promise12"]
    with pytest.raises(UsageError, match="no data set 'promise'.*choose first, small or"):
        set_names(folder.path, ["promise"])
    with pytest.raises(UsageError, match="the part is 'train'"):
        list(tasks_of(folder.path, ["toy"], "train"))


def test_a_set_without_training_patients_borrows_supports_or_uses_its_other_cases(drawn_prostates, tmp_path):
    folder = BroadFolder(tmp_path / "data")
    for n in range(18):
        folder.add_volume("promise12", f"case{n:02d}", square(seed=n))
    (folder.path / "prostate158").symlink_to(drawn_prostates, target_is_directory=True)
    for part in ("validation", "test"):
        gland, zones = tasks_of(folder.path, ["prostate158"], part)
        assert [case.name for case in gland.targets] == ["p158_001", "p158_020"]
        assert gland.objects == ("prostate",) and {case.dataset for case in gland.pool} == {"promise12"}
        assert zones.objects == ("transition zone", "peripheral zone")
        assert {case.name for case in zones.pool} == {"p158_001", "p158_020"}
        assert zones.targets[0].masks.shape[1] == 2 and gland.targets[0].masks.shape[1] == 1


def a_case(patient: str, slices: int) -> Case:
    images, masks = np.zeros((slices, 4, 4), np.float32), np.zeros((slices, 1, 4, 4), np.uint8)
    return Case(dataset="made", patient=patient, images=images, masks=masks, objects=("organ",), spacing_mm=None)


def test_a_limit_counts_patients_of_volumes_and_images_of_pictures():
    volumes = [a_case(f"p{n // 2}", 3) for n in range(10)]
    assert [case.patient for case in spread(volumes, 2)] == ["p0", "p0", "p4", "p4"]
    pictures = [a_case("block", 1) for _ in range(10)]
    assert len(spread(pictures, 3)) == 3 and spread(pictures, 3)[0] is pictures[0]
    assert spread(pictures, 20) is pictures and spread(pictures, None) is pictures


def test_every_first_set_is_one_that_has_a_split():
    assert {one.dataset for one in FIRST_SETS} == set(splits.COUNTS) | set(splits.FIXED)
    assert PATIENTS_UNKNOWN == ("psfhs", "endoscene", "colondb")
