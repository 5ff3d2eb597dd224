"""All protocols, and how one is found."""

from __future__ import annotations

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.paper.automedsam_tables import AUTOMEDSAM
from ProxyPromptSegmentLib.evaluation.paper.autosam_tables import AUTOSAM
from ProxyPromptSegmentLib.evaluation.paper.protocol import Protocol
from ProxyPromptSegmentLib.evaluation.paper.proxy_prompt_main import MAIN
from ProxyPromptSegmentLib.evaluation.paper.proxy_prompt_studies import STUDIES


def protocols() -> tuple[Protocol, ...]:
    """Return all protocols: by paper, tables before figures, each in the order of their numbers."""
    papers = ((*MAIN, *STUDIES), AUTOSAM, AUTOMEDSAM)
    return tuple(one for paper in papers for one in sorted(paper, key=lambda one: (one.id[0] == "F", int(one.id[1:]))))


def is_protocol(name: str) -> bool:
    """Return whether a protocol has this id, in letters of either case."""
    return any(one.id == name.upper() for one in protocols())


def protocol_of(name: str) -> Protocol:
    """Return a protocol by its id.

    Raises:
        UsageError: If there is none.
    """
    found = next((one for one in protocols() if one.id == name.upper()), None)
    if found is None:
        there = ", ".join(one.id for one in protocols())
        raise UsageError(f"there is no table or figure '{name}'; choose one of {there}")
    return found


def measured_as(protocol: Protocol) -> Protocol:
    """Return the protocol whose scores a protocol shows: itself, or that of which it is another view."""
    return protocol_of(protocol.same_as) if protocol.same_as else protocol
