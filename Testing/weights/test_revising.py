"""A model of the user's own gets another name and other words; its tensors and what else is there stay as they were."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from dataclasses import replace

from adapt_cases import QUICK, checked, register_small_model, use_folder, write_cases
from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.imaging import output_files
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.networks.checkpoints import load_model
from ProxyPromptSegmentLib.training.adapting.run import adapt
from ProxyPromptSegmentLib.weights import own, registry
from ProxyPromptSegmentLib.weights.own import card_of, check_room, export, register
from ProxyPromptSegmentLib.weights.publish import read_metadata
from ProxyPromptSegmentLib.weights.revising import description_of, free_name, own_entries, plain_name, revise


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a file of an adapted model."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        use_folder(patch, folder)
        register_small_model(folder)
        result = adapt(checked(write_cases(folder / "cases", 2)), "mine", replace(QUICK, steps=1), "cpu", True)
        export(registry.find("mine"), folder / "mine.safetensors")
    assert result.kept
    return folder / "mine.safetensors"


@pytest.fixture
def mine(home, made):
    """The entry of a model of the user's own."""
    register_small_model(home)
    return register(made)


def tensors(name):
    return load_model(name)[0].state_dict()


def test_name_and_words_change_in_the_list_and_the_card_and_enter_the_file_that_is_exported(mine, home):
    before = tensors("mine")
    made = revise(mine, "gland-3t", "For our 3 T scanner.")
    assert [entry.name for entry in own_entries()] == ["gland-3t"]
    assert load("gland-3t", "cpu").facts.name == "gland-3t"
    assert made.description.startswith("For our 3 T scanner. Adapted from small")
    assert card_of(made).read_text(encoding="utf-8").startswith("# gland-3t\n\nFor our 3 T scanner.\n\nAdapted from")
    assert not (home / "cache" / "mine").exists() and description_of(made) == "For our 3 T scanner."
    export(made, home / "out.safetensors")
    own.forget(made)
    registry.ModelCache().remove(made)
    again = register(home / "out.safetensors")
    assert (again.name, description_of(again)) == ("gland-3t", "For our 3 T scanner.")
    assert (
        again.description == made.description and read_metadata(home / "out.safetensors")["tensors_of"] == mine.sha256
    )
    after = tensors("gland-3t")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    revise(again, "gland-3t", "")
    export(registry.find("gland-3t"), home / "plain.safetensors")
    assert read_metadata(home / "plain.safetensors")["tensors_of"] == mine.sha256


@pytest.mark.parametrize("name", ["mine", "gland-3t"])
def test_a_description_and_a_name_leave_the_hash_by_which_records_and_other_models_know_it(mine, home, name):
    bytes_before = registry.location(mine).read_bytes()
    made = revise(mine, name, "For our 3 T scanner.")
    assert made.sha256 == mine.sha256 and registry.location(made).read_bytes() == bytes_before
    assert load(name, "cpu").segmenter.calibration.to_dict() == mine.calibration
    unchanged = home / "unchanged.safetensors"
    export(revise(made, "mine", ""), unchanged)
    assert unchanged.read_bytes() == bytes_before


def test_words_are_replaced_not_added_to(mine):
    first = card_of(mine).read_text(encoding="utf-8")
    once = revise(mine, "mine", "One.")
    twice = revise(once, "mine", "Two\nlines.")
    assert twice.description.count("One.") == 0 and twice.description.startswith("Two lines. Adapted")
    none = revise(twice, "mine", "")
    assert none.description == mine.description and card_of(none).read_text(encoding="utf-8") == first
    assert tensors("mine")


def test_what_cannot_be_revised_is_refused_by_name(mine, home):
    with pytest.raises(CheckpointError, match="'sam-compact' is no model of your own"):
        revise(registry.find("sam-compact"), "other", "")
    with pytest.raises(CheckpointError, match="'small' is the name of a model of your own, which is never replaced"):
        revise(mine, "small", "")
    with pytest.raises(CheckpointError, match="cannot be a model's name"):
        revise(mine, "Prostata/Müller", "")
    listed = json.loads((home / "own.json").read_text(encoding="utf-8"))
    listed["models"].append({"name": "child", "file": "child.safetensors", "needs": {"base": "mine"}})
    (home / "own.json").write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(CheckpointError, match="completes child, which would no longer find it"):
        revise(mine, "other", "")
    assert revise(mine, "mine", "The mother.").sha256 == mine.sha256  # its child still finds it


@pytest.mark.parametrize("name", ["mine", "other"])
def test_a_full_disk_leaves_the_model_as_it_was(mine, home, monkeypatch, name):
    before, listed = tensors("mine"), (home / "own.json").read_bytes()
    card = card_of(mine).read_text(encoding="utf-8")
    replacing = output_files.os.replace

    def full(source, target):
        if str(target).endswith("own.json"):
            raise OSError(28, "No space left on device")
        replacing(source, target)

    monkeypatch.setattr(output_files.os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        revise(mine, name, "Words.")
    monkeypatch.undo()
    use_folder(monkeypatch, home)
    assert (home / "own.json").read_bytes() == listed and card_of(mine).read_text(encoding="utf-8") == card
    after = tensors("mine")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert sorted(one.name for one in (home / "cache").iterdir() if one.is_dir()) == [
        "locks", "mine", "partial", "small"
    ]  # fmt: skip


def test_an_old_file_that_is_open_elsewhere_does_not_undo_a_new_name(mine, monkeypatch):
    def held(cache, entry):
        raise OutputError("it is used by another program")

    monkeypatch.setattr(registry.ModelCache, "remove", held)
    made = revise(mine, "other", "Words.")
    assert [entry.name for entry in own_entries()] == ["other"] and registry.location(made).is_file()


def test_a_model_that_was_imported_under_another_name_gets_the_new_one_in_its_card_too(mine, made):
    own.forget(mine)
    registry.ModelCache().remove(mine)
    revised = revise(register(made, "other"), "third", "Words.")
    assert card_of(revised).read_text(encoding="utf-8").startswith("# third\n\nWords.\n\nAdapted from")


@pytest.mark.parametrize(
    ("text", "name"),
    [("Prostata Müller/2", "prostata-mueller-2"), ("  ß-Zone ", "ss-zone"), ("..a..b..", "a.b"), ("///", ""),
     ("Île 3", "ile-3"), ("e\u0301cho", "echo"), ("Mu\u0308ller", "mueller")],
)  # fmt: skip
def test_a_name_is_made_plain(text, name):
    assert plain_name(text) == name


def test_a_name_that_is_taken_gets_a_number(mine):
    assert free_name("mine") == "mine-2" and free_name("???") == "model" and free_name("sam-compact") == "sam-compact-2"


def test_a_damaged_list_and_a_closed_folder_are_found_before_anything_is_trained(home, closed_folder, monkeypatch):
    check_room()
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(closed_folder))
    with pytest.raises(OutputError, match="may not be written"):
        check_room()
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(home / "cache"))
    (home / "own.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="own.json is damaged"):
        check_room()
    (home / "own.json").unlink()
    monkeypatch.setattr(own.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 5_000_000}))
    with pytest.raises(OutputError, match="5 MB are free"):
        check_room()
