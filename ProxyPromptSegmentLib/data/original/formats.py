"""Which original data set lies in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ProxyPromptSegmentLib.data.original import fh_ps_aop, glas, jnu_ifm, monuseg, polyps, promise12, refuge2, stare
from ProxyPromptSegmentLib.data.original.items import Item

READERS: dict[str, Callable[[Path], list[Item]]] = {
    "refuge2": refuge2.items,
    "stare": stare.items,
    "fh_ps_aop": fh_ps_aop.items,
    "promise12": promise12.items,
    "jnu_ifm": jnu_ifm.items,
    **{name: polyps.items_of(name) for name in polyps.NAMED},
    "monuseg": monuseg.items,
    "glas": glas.items,
}
LEAST = 3  # items; a folder with fewer has the layout by chance


def find_original(data: Path, name: str) -> list[Item]:
    """Return the items of an original data set in a folder, or in the first of its folders that has the layout.

    Args:
        data: Folder of the set, or folder of several sets.
        name: One of `READERS`.

    Returns:
        The items, empty if the set is not there.
    """
    read = READERS[name]
    inside = sorted(path for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
    for folder in (data, *inside):
        found = read(folder)
        if len(found) >= LEAST:
            return found
    return []
