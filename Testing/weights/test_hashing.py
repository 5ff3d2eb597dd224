"""Hashes of weights: read once per process, and read again when the file is another."""

from __future__ import annotations

import hashlib
import os

import pytest

from ProxyPromptSegmentLib.weights import hashing
from ProxyPromptSegmentLib.weights.hashing import sha256, weights_sha256


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the files that were hashed."""
    names: list[str] = []
    monkeypatch.setattr(hashing, "sha256", lambda path: (names.append(path.name), sha256(path))[1])
    return names


def test_a_file_of_weights_is_read_once(tmp_path, read) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    assert [weights_sha256(file) for _ in range(3)] == [hashlib.sha256(b"weights").hexdigest()] * 3
    assert read == [file.name]


def test_a_replaced_file_is_read_again_even_with_the_same_size_and_time(tmp_path, read) -> None:
    file, other = tmp_path / "w.safetensors", tmp_path / "other"
    file.write_bytes(b"weights")
    weights_sha256(file)
    other.write_bytes(b"WEIGHTS")
    facts = file.stat()
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    os.replace(other, file)
    assert weights_sha256(file) == hashlib.sha256(b"WEIGHTS").hexdigest()
    assert len(read) == 2


def test_a_command_hashes_its_model_once(tmp_path, read, monkeypatch) -> None:
    pytest.importorskip("torch")
    from command_cases import a_case, write_case
    from ProxyPromptSegmentLib.cli import main
    from ProxyPromptSegmentLib.weights.registry import checkpoint_of, find

    model = checkpoint_of(find("sam-compact"))
    hashing._remembered.cache_clear()  # other tests of this process have read it
    support, target = write_case(tmp_path, "old", a_case(1)), write_case(tmp_path, "new", a_case(2))[0]
    words = ["segment", "--support", *map(str, support), "--target", str(target), "--device", "cpu", "--slices", "2"]
    assert main([*words, "--output", str(tmp_path / "out.seg.nrrd"), "--quiet"]) in (0, 9)  # noise may show nothing
    assert read.count(model.name) == 1
