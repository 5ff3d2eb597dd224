"""The summary of the data sets: what the paper counts, and what is there."""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.evaluation.paper.loading import Division, load, what_is_there
from ProxyPromptSegmentLib.evaluation.paper.protocol import Protocol

HEAD = ("data set", "objects", "samples in the paper", "here", "images or volumes", "patients")


def counts(protocol: Protocol, data: Path, seed: int = 0) -> str:
    """Return the table in Markdown."""
    lines = [f"## {protocol.paper}, {protocol.id}: {protocol.title}", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for need in protocol.sets:
        objects = ", ".join(need.objects)
        if not what_is_there(need, data):
            lines.append(f"| {need.title} | {objects} | {need.samples} | missing | - | - |")
            continue
        one = load(need, data, Division(patients=0, seed=seed))
        items = [item for part in one.parts.values() for item in part]
        patients = len({item.patient for item in items})
        own = ", ".join(need.objects if one.original else need.stand_in_objects or need.objects)
        lines.append(f"| {need.title} | {own} | {need.samples} | {one.name} | {len(items)} | {patients} |")
    return "\n".join(lines) + "\n"
