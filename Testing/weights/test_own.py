"""Models of the user's own: registered completely or not at all, and never in place of another."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.networks.checkpoints import save_checkpoint
from ProxyPromptSegmentLib.weights import own, registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.own import check_free, entry_in, export, forget, register, says_what_it_is

WORDS = {"licence": "mine", "description": "what it is", "citation": "", "trained_on": "2 patients"}


def write(path, **more):
    metadata = {"name": "mine", "model": {"backbone": "sam-compact"}, "entry": WORDS, "card": "# mine\n", **more}
    save_checkpoint(path, {"a": torch.ones(2)}, metadata)
    return path


def test_a_file_is_registered_with_its_card_and_forgotten_again(home):
    entry = register(write(home / "a.safetensors"))
    assert registry.find("mine") == entry and entry.description == "what it is" and entry.fits == "sam-compact"
    assert own.card_of(entry).read_text(encoding="utf-8") == "# mine\n"
    assert registry.resolve("mine")[1] == entry.sha256
    out = home / "copy.safetensors"
    export(entry, out)
    assert register(out, "other").sha256 == entry.sha256
    lock = home / "cache" / "locks" / "mine.lock"
    assert lock.is_file()
    ModelCache().remove(entry)
    assert not lock.exists()
    assert forget(registry.find("mine"))
    assert [one.name for one in registry.all_entries() if one.origin != "shipped"] == ["other"]
    assert not (home / "cache" / "mine").exists()
    with pytest.raises(CheckpointError, match="not on this machine"):
        export(entry, home / "again.safetensors")


def test_a_name_in_use_is_refused(home):
    register(write(home / "a.safetensors"))
    with pytest.raises(CheckpointError, match="of your own, which is never replaced"):
        register(write(home / "b.safetensors"))
    with pytest.raises(CheckpointError, match="of the program"):
        check_free("sam-compact")
    assert not forget(registry.find("sam-compact"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_name_that_would_be_read_as_that_of_a_file_is_refused(home, suffix):
    with pytest.raises(CheckpointError, match=f"give a name without {suffix}"):
        check_free(f"mine{suffix}")
    with pytest.raises(CheckpointError, match=f"give a name without {suffix}"):
        register(write(home / "a.safetensors"), f"mine{suffix}")
    check_free("mine.2")


def test_entries_that_are_there_stay_and_a_damaged_list_is_not_replaced(home):
    entry = {"name": "another", "file": "x.safetensors", "fits": "sam-compact"}
    (home / "own.json").write_text(json.dumps({"format": 2, "models": [entry]}), encoding="utf-8")
    register(write(home / "a.safetensors"))
    assert {"another", "mine"} <= {one.name for one in registry.all_entries()}
    (home / "own.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is damaged"):
        register(write(home / "b.safetensors", name="next"))
    assert (home / "own.json").read_text(encoding="utf-8") == "{"


def test_a_file_that_says_nothing_or_whose_base_is_unknown_is_refused(home):
    plain = home / "plain.safetensors"
    save_checkpoint(plain, {"a": torch.ones(2)}, {"name": "plain", "model": {"backbone": "sam-compact"}})
    assert not says_what_it_is(plain) and not says_what_it_is(home / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="does not say what it is"):
        entry_in(plain)
    based = write(home / "based.safetensors", base={"name": "lost", "sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="is completed by 'lost'"):
        entry_in(based)


def test_a_file_that_says_something_invalid_leaves_the_list_as_it_was(home):
    register(write(home / "a.safetensors"))
    bad = write(home / "bad.safetensors", name="bad", entry={**WORDS, "calibration": [1, 2]})
    before = own.user_registry().read_text(encoding="utf-8")
    with pytest.raises(CheckpointError, match="calibration"):
        register(bad)
    assert own.user_registry().read_text(encoding="utf-8") == before
    assert [one.name for one in registry.all_entries() if one.origin != "shipped"] == ["mine"]
    assert not (home / "cache" / "bad").exists()


def test_the_name_of_a_model_that_can_still_be_downloaded_is_not_free(home):
    waiting = {"name": "clinic", "file": "c.safetensors", "sha256": "ab" * 32, "urls": ["https://example.org/c"]}
    own.user_registry().write_text(json.dumps({"format": 2, "models": [waiting]}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="never replaced"):
        register(write(home / "a.safetensors"), "clinic")
    assert registry.find("clinic").urls == ("https://example.org/c",)


def test_no_model_of_this_machine_is_replaced_by_an_export(home):
    """Exported under its own path, a renamed model would be another file than its hash says, and be lost."""
    made = register(write(home / "a.safetensors"), "renamed")
    other = register(write(home / "b.safetensors", note="another"), "other")
    link = home / "link.safetensors"
    link.symlink_to(registry.location(other))
    for path in (registry.location(made), registry.location(other), link):
        with pytest.raises(OutputError, match="the file of the model '(renamed|other)' itself"):
            export(made, path)
    assert registry.resolve("renamed")[1] == made.sha256 and registry.resolve("other")[1] == other.sha256


def test_a_model_that_completes_another_is_removed_with_it_alone(home, capsys):
    made = register(write(home / "a.safetensors"))
    base = {"name": "mine", "sha256": made.sha256}
    assert register(write(home / "b.safetensors", name="second", base=base)).base == "mine"
    assert main(["models", "remove", "mine"]) == 7
    assert "'mine' completes second, which cannot be used without it" in capsys.readouterr().err
    assert registry.location(made).is_file()
    assert main(["models", "remove", "mine", "second"]) == 0
    assert not {"mine", "second"} & {one.name for one in registry.all_entries()}


def test_a_file_whose_hash_nobody_knows_is_not_called_verified(home, capsys):
    entry = {"name": "foreign", "file": "foreign.safetensors", "fits": "sam-compact"}
    (home / "own.json").write_text(json.dumps({"format": 2, "models": [entry]}), encoding="utf-8")
    path = registry.location(registry.find("foreign"))
    write(path, name="foreign")  # put there by hand
    assert main(["models", "verify", "foreign"]) == 7
    assert "foreign: no hash of it is known" in capsys.readouterr().out
    path.rename(home / "foreign.safetensors")
    assert registry.find("foreign").sha256 is None and main(["models", "verify", "foreign"]) == 7
    ModelCache().take(registry.find("foreign"), home / "foreign.safetensors")
    assert main(["models", "verify", "foreign"]) == 0
    assert "foreign: verified" in capsys.readouterr().out
