"""The shelf of models tells the truth about this machine, and takes, checks and removes files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from download_cases import AT_ONCE, CONTENT
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentModule.models import rows
from ProxyPromptSegmentModule.states import TransferState as State
from shelf_cases import OTHER, PATIENCE, SLOW, a_generator, an_own, midway, own

ROOT = Path(__file__).resolve().parents[3]


# --- what it says ----------------------------------------------------------------------------------------------------


def test_rows_are_told_without_torch_and_without_reading_weights(home) -> None:
    code = (
        "import sys; from ProxyPromptSegmentModule.models.catalog import ModelCatalog; rows = ModelCatalog().rows(); "
        "print([row.name for row in rows][:2], [n for n in ('torch', 'SimpleITK', 'qt') if n in sys.modules])"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "ProxyPromptSegment")))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["['sam-compact',", "'sam2-compact']", "[]"], done.stderr


def test_shipped_models_say_what_they_are(shelf) -> None:
    rows = {row.name: row for row in shelf.rows()}
    compact, official = rows["sam-compact"], rows["sam2.1-hiera-large"]
    assert compact.state == "with the program" and compact.usable and not compact.reason and compact.here
    assert not compact.can_remove and not compact.can_download and not compact.follows
    assert compact.licence.startswith("Apache-2.0") and "non-commercial" in compact.licence
    assert "PROMISE12" in compact.trained_on and compact.bytes > 1e6
    assert official.state == "can be downloaded" and official.can_download and not official.usable
    assert "generator" in official.reason and official.follows


def test_models_follow_exactly_where_their_backbone_has_a_memory(shelf) -> None:
    pytest.importorskip("torch")
    from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import SAM2_NAMES

    for row in shelf.rows():
        assert row.follows == (registry.find(row.name).fits in SAM2_NAMES), row.name


@pytest.mark.parametrize("package", ["torch", "segment-anything"])
def test_a_missing_package_is_named(shelf, monkeypatch, package) -> None:
    monkeypatch.setattr(rows, "is_installed", lambda name: name != package)
    row = shelf.row("sam-compact")
    assert row.state == f"needs the package {package}" and not row.usable and package in row.reason
    assert row.here


def test_packages_are_found_without_importing_them(tmp_path, monkeypatch) -> None:
    (tmp_path / "only_a_folder").mkdir()
    (tmp_path / "not_imported.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert rows.is_installed("not-imported")
    assert not rows.is_installed("only_a_folder") and not rows.is_installed("no-such-package")


def test_before_anything_is_installed_the_shipped_models_are_listed(shelf, monkeypatch) -> None:
    for variable in ("PROXYPROMPT_CACHE", "PROXYPROMPT_REGISTRY"):
        monkeypatch.delenv(variable)
    for package in ("platformdirs", "filelock"):
        monkeypatch.setitem(sys.modules, package, None)
    assert shelf.row("sam-compact").here
    assert shelf.row("sam-vit-b").state == "can be downloaded"
    ended = shelf.download("sam-vit-b").wait(PATIENCE)
    assert ended.state == State.FAILED and "filelock" in ended.error


def test_weights_without_address_have_to_be_imported(home, shelf) -> None:
    own(home, an_own(), an_own(name="unknown", sha256=None))
    for name in ("mine", "unknown"):
        assert shelf.row(name).state == "to be imported" and not shelf.row(name).can_download
    ended = shelf.download("unknown").wait(PATIENCE)
    assert ended.state == State.FAILED and "cannot be downloaded" in ended.error


def test_unknown_names_are_refused_with_the_known_ones(shelf) -> None:
    for act in (shelf.row, shelf.needed, shelf.download, shelf.verify, shelf.remove):
        with pytest.raises(CheckpointError, match=r"no model 'nobody'.*sam-compact"):
            act("nobody")
    with pytest.raises(CheckpointError, match="no model 'nobody'"):
        shelf.import_file("file.pth", "nobody")
    assert not shelf.transfers


# --- import, check, remove -------------------------------------------------------------------------------------------


def test_files_are_imported_by_their_hash_from_a_folder(home, shelf) -> None:
    own(home, an_own(), an_own(name="second", content=OTHER))
    stick = home / "stick"
    stick.mkdir()
    for name, content in (("a.bin", CONTENT), ("b.pth", OTHER), ("c.pth", b"else")):
        (stick / name).write_bytes(content)
    assert shelf.import_file(stick).wait(PATIENCE).state == State.FINISHED
    assert shelf.row("mine").here and shelf.row("second").here
    assert shelf.import_file(stick / "c.pth").wait(PATIENCE).error.startswith("c.pth contains none of the known")
    assert "does not exist" in shelf.import_file(stick / "gone.pth").wait(PATIENCE).error


def test_a_file_under_a_name_has_to_be_the_right_one(home, shelf) -> None:
    own(home, an_own(), an_own(name="unknown", sha256=None, bytes=None))
    (home / "right.pth").write_bytes(CONTENT)
    (home / "wrong.pth").write_bytes(OTHER)
    wrong = shelf.import_file(home / "wrong.pth", "mine").wait(PATIENCE)
    assert wrong.state == State.FAILED and "not the file of 'mine'" in wrong.error and not shelf.row("mine").here
    right = shelf.import_file(home / "right.pth", "mine")
    assert right.wait(PATIENCE).state == State.FINISHED and right.name == "mine" and shelf.row("mine").here
    assert "does not exist" in shelf.import_file(home / "gone.pth", "mine").wait(PATIENCE).error
    assert "with the program" in shelf.import_file(home / "right.pth", "sam-compact").wait(PATIENCE).error
    pytest.importorskip("torch")
    garbage = shelf.import_file(home / "right.pth", "unknown").wait(PATIENCE)
    assert garbage.state == State.FAILED and not shelf.row("unknown").here, "no tensors in it"


def test_a_damaged_file_is_found_and_removed(home, shelf) -> None:
    (home / "w.pth").write_bytes(CONTENT)
    own(home, an_own((home / "w.pth").as_uri()))
    assert "not on this machine" in shelf.verify("mine").wait(PATIENCE).error
    shelf.download("mine").wait(PATIENCE)
    good = shelf.verify("mine").wait(PATIENCE)
    assert good.state == State.FINISHED and good.received == len(CONTENT)
    ModelCache().path_of(registry.find("mine")).write_bytes(CONTENT[:-1] + b"x")
    damaged = shelf.verify("mine").wait(PATIENCE)
    assert damaged.state == State.FAILED and "SHA-256" in damaged.error and "download it again" in damaged.error
    assert shelf.remove("mine") == len(CONTENT) and not shelf.row("mine").here
    assert shelf.remove("mine") == 0


def test_the_programs_own_models_are_verified_and_never_removed(shelf) -> None:
    assert shelf.verify("sam-compact").wait(PATIENCE).state == State.FINISHED
    with pytest.raises(CheckpointError, match="comes with the program"):
        shelf.remove("sam-compact")


def test_nothing_is_removed_under_a_running_transfer(home, shelf, server) -> None:
    own(home, an_own(server.serve("/w", CONTENT, **SLOW)), a_generator(server.serve("/p", OTHER)))
    transfer = shelf.download("prompts", AT_ONCE)
    midway(transfer)
    for name in ("mine", "prompts"):
        with pytest.raises(CheckpointError, match="Downloading prompts is in progress"):
            shelf.remove(name)
    transfer.cancel()
    transfer.wait(PATIENCE)
    assert shelf.remove("mine") > 0
