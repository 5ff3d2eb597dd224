"""The registry: what it names, what it refuses to name, and what a name leads to."""

from __future__ import annotations

import hashlib
import json
import logging
import re

import pytest

from download_cases import CONTENT, HASH, an_entry, own_entry, write_own
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.catalogue import read_entries
from ProxyPromptSegmentLib.weights.classes import classes_of
from ProxyPromptSegmentLib.weights.entry import ModelEntry
from ProxyPromptSegmentLib.weights.registry import all_entries, checkpoint_of, find, read_registry, resolve
from ProxyPromptSegmentLib.weights.vocabulary import chosen_classes

# --- what the program ships ----------------------------------------------------------------------------------------


def test_every_shipped_entry_is_complete_and_says_who_vouches_for_its_hash() -> None:
    entries = read_entries(registry.models_folder() / "registry.json")
    assert {entry.kind for entry in entries} >= {"backbone", "model"}
    for entry in entries:
        assert entry.sha256 and entry.bytes and entry.fits and entry.package, entry.name
        assert entry.licence and entry.citation and entry.trained_on and entry.description and entry.hash_source
        if not (entry.embedded or entry.replaced_by):
            assert entry.urls and all(url.startswith("https://") for url in entry.urls), entry.name
        ours = bool(entry.embedded or entry.replaced_by)
        assert "project" in entry.hash_source if ours else "third-party" in entry.hash_source
    assert len({entry.sha256 for entry in entries}) == len(entries)


def test_the_official_weights_are_all_there_with_sams_own_names() -> None:
    names = {entry.name for entry in all_entries() if entry.kind == "backbone"}
    sizes = {
        f"sam{version}-hiera-{size}" for version in ("2", "2.1") for size in ("tiny", "small", "base-plus", "large")
    }
    assert names >= {"sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam-vit-b", *sizes}
    for letter in "blh":
        entry = find(f"sam-vit-{letter}")
        assert entry.file == f"sam_vit_{letter}_{entry.md5_prefix}.pth" and len(entry.md5_prefix) == 6


def test_an_entry_comes_back_from_its_own_words() -> None:
    for entry in all_entries():
        assert ModelEntry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


def test_the_embedded_models_are_those_beside_the_registry() -> None:
    assert all(entry.embedded and registry.checkpoint_of(entry).is_file() for entry in read_registry())


# --- what cannot be named ------------------------------------------------------------------------------------------


HOSTILE_FILES = [
    "../w.pth", "/etc/passwd", "..", ".", "", "a/b.pth", "a\\b.pth", "C:w.pth", "C:\\w.pth", "//host/w.pth", "~/w.pth",
    "w..pth", ".w.pth", "-w.pth", "nul.pth", "CON.pt", "com1.safetensors", "LPT9.pth", "w.pth.", "w.pth ", " w.pth",
    "w\n.pth", "w\x00.pth", "wü.pth", "w.pth\n", "a" * 200 + ".pth", "w.pkl", "w.exe", "w", "${HOME}.pth", "w*.pth",
]  # fmt: skip


HOSTILE_NAMES = [
    "../x",
    "a/b",
    "a\\b",
    "..",
    "",
    "A",
    "con",
    "nul",
    "x ",
    "x\n",
    ".x",
    "x.",
    "x..y",
    "x" * 70,
    "lpt1.x",
]


@pytest.mark.parametrize("file", HOSTILE_FILES)
def test_a_file_that_is_no_plain_name_is_refused(file) -> None:
    with pytest.raises(CheckpointError, match="not a plain file name and could lie outside|must end with"):
        an_entry(file=file)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_is_no_plain_name_is_refused(name) -> None:
    with pytest.raises(CheckpointError, match="cannot be a model's name"):
        an_entry(name=name)


def test_whatever_can_be_named_lies_in_the_cache(tmp_path) -> None:
    cache = ModelCache(tmp_path)
    for entry in [*all_entries(), an_entry(name="a+b_c-1.2", file="A+b_c-1.2.PTH")]:
        assert cache.path_of(entry).resolve().parent.parent == tmp_path.resolve()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "virus"}, "kind 'virus'; allowed is one of backbone, generator, model"),
        ({"kind": "model"}, r"file 'w.pth'; allowed is a .safetensors file, which cannot run code, for a model"),
        ({"sha256": "12"}, "sha256 '12'; allowed is 64 hexadecimal digits"),
        ({"sha256": 12}, "sha256 is 12; it must be text"),
        ({"bytes": -1}, "bytes -1; allowed is an integer above 0"),
        ({"bytes": True}, "bytes is true; it must be a whole number"),
        ({"bytes": "9"}, 'bytes is "9"; it must be a whole number'),
        ({"licence": 7}, "licence is 7; it must be text"),
        ({"fits": ""}, "fits ''; allowed is the name of the backbone"),
        ({"md5_prefix": "xyz"}, "md5_prefix 'xyz'"),
        ({"urls": "https://h/w"}, 'urls is "https://h/w"; it must be a list'),
        ({"urls": [3]}, r"urls\[0\] is 3; it must be text"),
        ({"urls": ["ftp://h/w"]}, "address 'ftp://h/w'; allowed are https"),
        ({"urls": ["https:///w"]}, "address"),
        ({"urls": ["https://h"]}, "address"),
        ({"urls": ["https://h/w w"]}, "address"),
        ({"urls": ["https://[h/w"]}, "address"),
        ({"urls": ["javascript:1"]}, "address"),
        ({"size": 3}, "unknown keys: size; known are"),
        ({"origin": "shipped"}, "unknown keys: origin"),
        ({"needs": {"shell": "rm"}}, "unknown keys: needs.shell"),
        ({"needs": [1]}, "needs is .1.; it must be an object"),
        ({"file": None}, "file is null; it must be text"),
    ],
)
def test_an_entry_that_is_not_allowed_is_refused_with_its_field(changes, sentence) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        ModelEntry.from_dict(own_entry(**changes))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', "is damaged: models is missing"),
        ('{"format": "2", "models": []}', 'is damaged: format is "2"; it must be a whole number'),
        ('{"format": 2, "models": {}}', "is damaged: models is {}; it must be a list"),
        ('{"format": 99, "models": []}', "has the format 99; update"),
        ('{"format": 2, "models": [3]}', "is refused: an entry of the registry is 3"),
        ("[" * 100_000, "is damaged"),
        (json.dumps({"format": 2, "models": [own_entry(), own_entry()]}), "two entries named 'mine'"),
    ],
)
def test_a_registry_that_is_none_is_a_sentence(tmp_path, text, sentence) -> None:
    (tmp_path / "registry.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=sentence):
        all_entries(tmp_path)


# --- a user's own entries ------------------------------------------------------------------------------------------


def test_a_user_adds_entries_in_a_file_of_their_own(home) -> None:
    assert "mine" not in {entry.name for entry in all_entries()}
    write_own(home, own_entry())
    assert find("mine").origin == str(home / "own.json")
    assert find("sam-compact").origin == "shipped"


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (own_entry(name="sam-vit-b"), "has an entry 'sam-vit-b', but this name belongs to a model of the program"),
        (own_entry(file="../../evil.pth"), "is refused: .*could lie outside the model's folder"),
        (own_entry(embedded=True, name="x"), "marks 'x' as embedded"),
        ({"name": "x"}, "is refused: .*file is missing"),
    ],
)
def test_a_users_mistake_is_warned_of_and_the_shipped_models_stay_as_they_are(home, entry, sentence, caplog) -> None:
    before = all_entries()
    write_own(home, entry)
    with caplog.at_level(logging.WARNING):
        assert all_entries() == before
    assert len(caplog.records) == 1
    assert re.search(sentence, caplog.text)
    assert resolve("sam-compact")[0].name == "sam-compact.safetensors"


def test_a_hostile_path_in_a_registry_writes_nothing_anywhere(home, server, capsys) -> None:
    write_own(home, own_entry(server.serve("/w", CONTENT), file="../../evil.pth"))
    assert main(["models", "download", "mine", "--yes", "--allow-http"]) == 7
    err = capsys.readouterr().err
    assert "could lie outside" in err and "there is no model 'mine'" in err
    assert server.asked == [] and not list(home.rglob("*evil*"))


# --- resolving -----------------------------------------------------------------------------------------------------


def test_weights_that_are_not_here_say_how_they_can_be_had(home) -> None:
    write_own(home, own_entry(name="net", kind="model", file="n.safetensors"))
    with pytest.raises(CheckpointError, match=r"not on this machine \(0 MB\)") as caught:
        resolve("net")
    assert caught.value.remedy == Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model="net")
    with pytest.raises(CheckpointError, match="is an image backbone alone") as caught:
        resolve("sam-vit-b")
    assert caught.value.remedy.kind is RemedyKind.CHOOSE_MODEL


def test_downloaded_weights_are_found_by_name_and_a_damaged_file_is_not_loaded(home) -> None:
    write_own(home, own_entry(name="net", kind="model", file="n.safetensors"))
    path = ModelCache().path_of(find("net"))
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert resolve("net") == (path, HASH)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(CheckpointError, match="damaged or another file") as caught:
        resolve("net")
    assert caught.value.remedy == Remedy(kind=RemedyKind.REPLACE_MODEL, model="net")


def _registry(folder, **entry: object):
    entry = {"name": "m", "file": "m.safetensors", **entry}
    (folder / "registry.json").write_text(json.dumps({"format": 1, "models": [entry]}), encoding="utf-8")
    return folder


def test_a_registered_model_is_found_by_name_once_its_hash_is_right(tmp_path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert resolve("m", _registry(tmp_path, sha256=digest)) == (
        (tmp_path / "m.safetensors").resolve(),
        digest,
    )
    with pytest.raises(CheckpointError, match="SHA-256"):
        resolve("m", _registry(tmp_path, sha256="1" + digest[1:]))


@pytest.mark.parametrize("file", ["../m.safetensors", "/etc/passwd", "sub/../../m.safetensors"])
def test_a_registry_that_points_out_of_its_folder_is_refused(tmp_path, file) -> None:
    with pytest.raises(CheckpointError, match="outside"):
        checkpoint_of(read_registry(_registry(tmp_path, file=file))[0], tmp_path)


def test_a_damaged_or_missing_registry_is_a_sentence(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        resolve("m", tmp_path)
    (tmp_path / "registry.json").write_text("[]")
    with pytest.raises(CheckpointError, match="damaged"):
        resolve("m", tmp_path)


def test_an_unchanged_list_of_models_is_checked_once_and_a_changed_one_again(tmp_path, monkeypatch) -> None:
    from ProxyPromptSegmentLib.weights import catalogue

    checked = []
    from_dict = ModelEntry.from_dict
    monkeypatch.setattr(catalogue.ModelEntry, "from_dict", lambda *what: checked.append(1) or from_dict(*what))
    file = tmp_path / "registry.json"
    text = (registry.models_folder() / "registry.json").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    first = read_entries(file)
    first.pop()  # the list is the caller's
    assert len(read_entries(file)) == len(first) + 1 == len(checked)
    file.write_text(text.replace("sam-compact", "sam-small"), encoding="utf-8")
    assert "sam-small" in [entry.name for entry in read_entries(file)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("Optic Disk", "optic disc"), ("brain-tumor", "brain tumour"), ("leucocyte", "white blood cell")],
)
def test_classes_are_found_in_american_and_british_spelling(asked, expected) -> None:
    known = classes_of(registry.find("classes-compact"))
    assert [one.name for one in chosen_classes(known, [asked], "the model")] == [expected]


def test_a_misspelt_model_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(CheckpointError, match="there is no model 'sam-vit-z'; did you mean sam-vit-") as caught:
        registry.find("sam-vit-z")
    assert "autosam" not in str(caught.value)
