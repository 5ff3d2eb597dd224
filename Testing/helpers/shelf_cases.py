"""A shelf of models with a user's registry and a server of this machine, and what its tests share."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path

from download_cases import CONTENT

OTHER = CONTENT[::-1]
SLOW = {"pause": 0.03}
PATIENCE = 20.0


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ProxyPromptTransfers")]


def own(home: Path, *entries: dict[str, object]) -> None:
    (home / "own.json").write_text(json.dumps({"format": 2, "models": entries}), encoding="utf-8")


def an_own(url: str = "", name: str = "mine", content: bytes = CONTENT, **changes: object) -> dict[str, object]:
    known = {"kind": "backbone", "file": f"{name}.pth", "fits": "sam-vit-b", "licence": "CC0"}
    hashed = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "urls": [url] if url else []}
    return {"name": name, **known, **hashed, **changes}


def a_generator(url: str, content: bytes = OTHER) -> dict[str, object]:
    return an_own(url, "prompts", content, kind="generator", file="prompts.safetensors", needs={"base": "mine"})


def midway(transfer):
    """The transfer, once some but not all bytes are there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        state = transfer.poll()
        if state.ended or 0 < state.received < state.total:
            return state
        time.sleep(0.001)
    raise AssertionError(f"nothing came: {transfer.poll()}")
