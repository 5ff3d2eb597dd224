"""A file to download, entries of a registry, and what the tests of downloads share."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.catalogue import FORMAT
from ProxyPromptSegmentLib.weights.download import Manner
from ProxyPromptSegmentLib.weights.entry import ModelEntry

CONTENT = random.Random(0).randbytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
RIGHT = {"weights/w.pth": CONTENT}
AT_ONCE = Manner(allow_http=True, timeout=5.0, pauses=(0.0, 0.0))


def an_entry(*urls: str, content: bytes = CONTENT, **changes: object) -> ModelEntry:
    known = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "kind": "backbone", "fits": "x"}
    return ModelEntry(**{"name": "weights", "file": "w.pth", "urls": urls, **known, **changes})


def files(cache: ModelCache) -> dict[str, bytes]:
    """Everything in the cache that is no lock."""
    found = {path.relative_to(cache.folder).as_posix(): path for path in cache.folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("locks")}


def write_own(home: Path, *entries: object, number: int = FORMAT) -> None:
    (home / "own.json").write_text(json.dumps({"format": number, "models": entries}), encoding="utf-8")


def own_entry(url: str = "https://h/w", **changes: object) -> dict[str, object]:
    known = {"sha256": HASH, "bytes": len(CONTENT), "licence": "CC0", "fits": "sam-vit-b"}
    return {"name": "mine", "kind": "backbone", "file": "w.pth", "urls": [url], **known, **changes}
