"""Prepared supports on disk: used by the next process, never for something else, and never with a name inside."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.user_folders import supports_folder
from ProxyPromptSegmentLib.worker.kept_supports import KeptSupports
from worker_doubles import Talk, a_job, an_engine, whole_slices


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "supports"


@pytest.fixture
def process(segmenter, folder):
    """What a new process has: an engine with empty caches and the files of the others."""
    return lambda limit=1 << 30: an_engine(segmenter, kept=KeptSupports(folder, limit))


def files(folder):
    return sorted(folder.glob("*.safetensors"))


def test_the_next_process_embeds_no_support_and_gives_the_same_masks(process, folder, encode_calls):
    job = a_job(slices=(4,))
    first = Talk().do(whole_slices(job), process())
    assert sum(encode_calls) == 1 + len(job.support) and len(files(folder)) == len(job.support)
    encode_calls.clear()
    second = Talk().do(whole_slices(job), process())
    assert encode_calls == [1], "the target's slice alone"
    np.testing.assert_allclose(second.result.probability, first.result.probability, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(second.masks, first.masks)


def test_another_mask_image_or_weights_have_files_of_their_own(process, folder, segmenter):
    Talk().do(whole_slices(a_job(slices=(4,))), process())
    count = len(files(folder))
    Talk().do(whole_slices(a_job(objects=("front",), slices=(4,))), process())
    Talk().do(whole_slices(a_job(support=13, slices=(4,))), process())
    assert len(files(folder)) == 3 * count
    store = process()
    store.open("sam-compact", "cpu")
    store._files[segmenter.model.generator] = "1" * 64
    assert store.prepared(segmenter, a_job().support) is not None
    assert len(files(folder)) == 4 * count


def test_the_same_masks_under_other_names_share_their_files(process, folder, encode_calls):
    job = a_job(slices=(4,))
    store = process()
    store.open("sam-compact", "cpu")
    one = store.prepared_parts(store.open("sam-compact", "cpu").segmenter, job.support.pairs, ("gland",))
    other = process()
    encode_calls.clear()
    segmenter = other.open("sam-compact", "cpu").segmenter
    two = other.prepared_parts(segmenter, job.support.pairs, ("prostate",))
    assert encode_calls == [] and (one.names, two.names) == (("gland",), ("prostate",))
    for name in ("features", "aggregated", "occupancy", "valid", "depth"):
        assert torch.equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("harm", ["cut", "flipped", "foreign", "other", "empty", "folder"])
def test_a_damaged_or_foreign_file_is_ignored_and_written_again(process, folder, encode_calls, harm):
    job = a_job(slices=(4,))
    first = Talk().do(whole_slices(job), process())
    path, *rest = files(folder)
    good = path.read_bytes()
    if harm == "folder":
        path.unlink()
        path.mkdir()
    else:
        flipped = bytearray(good)
        flipped[-5] ^= 64
        other = {"cut": good[:-9], "flipped": bytes(flipped), "foreign": b"hello", "empty": b""}
        path.write_bytes(other.get(harm) or (rest[0].read_bytes() if harm == "other" else b""))
    encode_calls.clear()
    second = Talk().do(whole_slices(job), process())
    assert sum(encode_calls) == 2, "the slice, and the one support whose file is of no use"
    np.testing.assert_array_equal(second.masks, first.masks)
    if harm != "folder":
        encode_calls.clear()
        Talk().do(whole_slices(job), process())
        assert encode_calls == [1], "it was written again"


def test_files_hold_no_names_and_only_their_owner_reads_them(process, folder):
    Talk().do(whole_slices(a_job(slices=(4,))), process())
    for path in files(folder):
        content = path.read_bytes()
        assert b"prostate" not in content and b"phantom" not in content and len(path.stem) == 64
        if os.name == "posix":
            assert path.stat().st_mode & 0o077 == 0 and folder.stat().st_mode & 0o077 == 0


def test_the_files_used_least_recently_are_removed_beyond_the_limit(process, folder):
    Talk().do(whole_slices(a_job(slices=(4,))), process())
    for number, path in enumerate(files(folder)):
        os.utime(path, (number + 1, number + 1))
    old, *used = files(folder)
    (folder / "support-0.part").write_bytes(b"left by a killed process")
    (folder / "film.part").write_bytes(b"a download of the user")
    for name in ("support-0.part", "film.part"):
        os.utime(folder / name, (1, 1))
    (folder / "notes.txt").write_text("of the user")
    size = old.stat().st_size
    Talk().do(whole_slices(a_job(slices=(4,))), process())  # reads them all, now
    os.utime(old, (1, 1))
    Talk().do(whole_slices(a_job(objects=("front",), slices=(4,))), process(5 * size + 100))
    assert not old.exists() and all(path.exists() for path in used) and len(files(folder)) == 5
    assert not (folder / "support-0.part").exists()
    assert (folder / "notes.txt").exists() and (folder / "film.part").exists()


def test_what_was_left_unfinished_is_removed_after_a_day_within_the_limit_too(process, folder):
    folder.mkdir()
    begun = (300).to_bytes(8, "little") + b'{"features"'
    # Those that begin with "tmp" are of earlier versions.
    ours = {"support-0abc_xyz.part": begun, "tmp0abc_xyz.part": begun, "tmpempty_xy.part": b""}
    theirs = {"tmp1abc_xyz.part": b"a download of the user", "film.part": begun, "tmp0abc_xyz.txt": begun}
    days = {name: time.time() - 90_000 for name in (*ours, *theirs)}
    for name, content in {**ours, **theirs, "tmpyoung_01.part": begun, "support-young_01.part": begun}.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (days.get(name, time.time()),) * 2)
    Talk().do(whole_slices(a_job(slices=(4,))), process())
    left = {path.name for path in folder.iterdir() if path.suffix != ".safetensors"}
    assert left == {*theirs, "tmpyoung_01.part", "support-young_01.part"}


def test_a_folder_that_cannot_be_written_changes_nothing(segmenter, tmp_path):
    (tmp_path / "file").write_text("no folder")
    found = Talk().do(
        whole_slices(a_job(slices=(4,))), an_engine(segmenter, kept=KeptSupports(tmp_path / "file" / "x"))
    )
    assert found.result.done[4]


def test_they_are_kept_in_the_users_own_folder_even_where_weights_are_shared(monkeypatch, tmp_path):
    monkeypatch.delenv("PROXYPROMPT_SUPPORTS")
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path))
    assert supports_folder().name == "supports" and tmp_path not in supports_folder().parents
    monkeypatch.setenv("PROXYPROMPT_SUPPORTS", str(tmp_path / "here"))
    assert supports_folder() == tmp_path / "here"
    monkeypatch.setenv("PROXYPROMPT_SUPPORTS", "Off")
    assert supports_folder() is None and KeptSupports.of_user() is None
