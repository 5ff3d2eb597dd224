"""Weights of earlier versions: known by their hash, imported to repeat a result, never taken for the present ones."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.catalogue import read_entries
from ProxyPromptSegmentLib.weights.earlier import MadeWith, note_on
from ProxyPromptSegmentLib.weights.terms import terms_of

ROOT = Path(__file__).parents[2]
OLD = ("sam-compact-v1", "sam-compact-v2", "sam-compact-v3", "sam2-compact-v1", "sam2-compact-v2", "classes-compact-v1")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def entry_of(name):
    return next(one for one in read_entries(registry.models_folder() / "registry.json") if one.name == name)


@pytest.mark.parametrize("name", OLD)
def test_earlier_weights_have_an_entry_that_says_where_they_are(name, cache):
    entry = entry_of(name)
    assert entry_of(entry.replaced_by).embedded
    assert "commit" in entry.description
    with pytest.raises(CheckpointError, match="commit"):
        registry.resolve(name)


@pytest.mark.parametrize("name", OLD)
def test_the_file_is_in_the_history_with_the_hash_of_the_entry(name):
    entry = entry_of(name)
    words = entry.description.split()
    commit, file = words[words.index("commit") + 1], next(word for word in words if word.startswith("Resources/"))
    git = shutil.which("git")
    if git is None or subprocess.run([git, "-C", ROOT, "cat-file", "-e", commit], capture_output=True).returncode:
        pytest.skip("a checkout without history")
    found = subprocess.run([git, "-C", ROOT, "show", f"{commit}:{file}"], capture_output=True, check=True).stdout
    assert hashlib.sha256(found).hexdigest() == entry.sha256
    assert len(found) == entry.bytes


@pytest.mark.parametrize("name", ["sam-compact", "sam2-compact", "classes-compact"])
def test_weights_that_the_present_ones_replaced_are_not_forgotten(name):
    git, file = shutil.which("git"), f"Resources/models/{name}.safetensors"
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("a checkout without history")
    listed = subprocess.run(
        [git, "-C", ROOT, "log", "-2", "--format=%H", "--", file], capture_output=True, check=True, text=True
    )
    commits = listed.stdout.split()
    if len(commits) < 2:
        pytest.skip("a checkout without history")
    before = subprocess.run([git, "-C", ROOT, "show", f"{commits[1]}:{file}"], capture_output=True, check=True).stdout
    known = {one.sha256 for one in read_entries(registry.models_folder() / "registry.json")}
    assert hashlib.sha256(before).hexdigest() in known


def test_present_weights_need_no_words_and_others_are_told_apart(cache):
    now, old = entry_of("sam-compact"), entry_of("sam-compact-v2")
    assert note_on(MadeWith(name="sam-compact", sha256=now.sha256)) == ""
    assert "not on this computer" in note_on(MadeWith(name="sam-compact", sha256=old.sha256))
    assert "not known to this program" in note_on(MadeWith(name="sam-compact", sha256="ab" * 32))


def test_the_terms_name_the_sets_that_are_not_for_commercial_use():
    terms = dict(terms_of(entry_of("sam-compact")))
    assert "non-commercial" in terms["Licence of the weights"]
    assert "ACDC" in terms["Non-commercial"]
    assert "PROMISE12" in terms["Research use, or not stated"]


def test_without_a_card_the_registry_is_quoted(cache):
    terms = dict(terms_of(entry_of("sam-compact-v1")))
    assert "PROMISE12" in terms["Trained on"]
