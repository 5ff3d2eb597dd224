"""The release folder: complete, the same bytes whenever it is made, and a registry for whoever downloads it."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.weights import publish as module
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.catalogue import read_entries
from release_cases import Release

WORDS = {"licence": "CC0", "description": "a test", "citation": "nobody", "trained_on": "nothing"}


@pytest.fixture
def release(release: Release) -> Release:
    """The same, with what a maintainer writes beside the checkpoint."""
    release.file.with_suffix(".md").write_text("# Model card\n", encoding="utf-8")
    release.file.with_suffix(".json").write_text(json.dumps(WORDS), encoding="utf-8")
    return release


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_embedded_models_are_published_as_they_are_twice_with_the_same_bytes(tmp_path, capsys) -> None:
    for name in ("one", "two"):
        assert main(["models", "publish", "--out", str(tmp_path / name)]) == 0
    one = content(tmp_path / "one")
    assert one == content(tmp_path / "two")
    assert {"sam-compact.safetensors", "sam-compact.md", "registry.json", "SHA256SUMS"} <= one.keys()
    assert one["sam-compact.safetensors"] == registry.checkpoint_of(registry.find("sam-compact")).read_bytes()
    shipped = registry.find("sam-compact")
    (entry,) = (e for e in read_entries(tmp_path / "one" / "registry.json") if e.name == "sam-compact")
    for key in (
        "sha256",
        "bytes",
        "licence",
        "citation",
        "description",
        "trained_on",
        "fits",
        "package",
        "kind",
        "file",
    ):
        assert getattr(entry, key) == getattr(shipped, key), key
    for line in one["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(one[name]).hexdigest() == digest
    assert b"\r" not in one["registry.json"] + one["SHA256SUMS"]
    assert shipped.sha256 in capsys.readouterr().out


def test_a_trained_generator_is_published_and_then_downloaded_from_the_release(release, tmp_path, capsys) -> None:
    out = tmp_path / "release"
    words = ["models", "publish", str(release.file), "--out", str(out), "--json"]
    assert main([*words, "--address", out.as_uri()]) == 0
    entry = json.loads(capsys.readouterr().out)[0]
    assert entry["kind"] == "generator" and entry["needs"] == {"package": "segment-anything", "base": "official"}
    assert entry["sha256"] == release.digest and entry["urls"] == [f"{out.as_uri()}/prompts.safetensors"]
    published = json.loads((out / "registry.json").read_text(encoding="utf-8"))
    release.entries[1:] = published["models"]
    release.write()
    assert main(["models", "download", "prompts", "--yes"]) == 0
    assert (tmp_path / "cache" / "prompts" / "prompts.safetensors").read_bytes() == release.file.read_bytes()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda file: file.with_suffix(".md").unlink(), "prompts.md is missing; a release needs"),
        (lambda file: file.with_suffix(".json").unlink(), "prompts.json is missing"),
        (lambda file: file.with_suffix(".json").write_text("{}"), "prompts.json cannot be used .'licence'"),
        (
            lambda file: file.with_suffix(".json").write_text(json.dumps({**WORDS, "licence": ""})),
            "cannot be published without licence",
        ),
        (lambda file: file.write_bytes(b"not a checkpoint"), "is not a checkpoint of ProxyPromptSegment"),
        (lambda file: file.with_suffix(".json").write_text(json.dumps({**WORDS, "name": "../x"})), "a model's name"),
    ],
)
def test_an_incomplete_release_is_refused_and_nothing_is_made(release, tmp_path, spoil, sentence, capsys) -> None:
    spoil(release.file)
    before = set(tmp_path.iterdir())
    assert main(["models", "publish", str(release.file), "--out", str(tmp_path / "release")]) == 7
    assert re.search(sentence, capsys.readouterr().err)
    assert set(tmp_path.iterdir()) == before


def test_a_folder_with_something_in_it_is_not_touched(release, tmp_path, capsys) -> None:
    out = tmp_path / "release"
    out.mkdir()
    (out / "mine").write_text("mine")
    assert main(["models", "publish", str(release.file), "--out", str(out)]) == 6
    assert "exists and is not empty" in capsys.readouterr().err
    assert content(out) == {"mine": b"mine"}
    (out / "mine").unlink()
    assert main(["models", "publish", str(release.file), "--out", str(out)]) == 0


def test_a_disk_that_fails_leaves_nothing(release, tmp_path, monkeypatch, capsys) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", fail)
    before = set(tmp_path.iterdir())
    assert main(["models", "publish", str(release.file), "--out", str(tmp_path / "release")]) == 6
    assert "No space left on device" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_two_models_of_one_name_are_not_published_together(release, tmp_path, capsys) -> None:
    words = ["models", "publish", str(release.file), str(release.file), "--out", str(tmp_path / "release")]
    assert main(words) == 7
    assert "two models of the release have the same name" in capsys.readouterr().err
    assert main([*words[:3], *words[4:], "--address", "somewhere"]) == 7
