"""The cases of any data set, divided into training, validation and test: known, small or described sets."""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.data.cases import DATASETS, load_dataset
from ProxyPromptSegmentLib.data.described import described_names, foreign_files, load_described
from ProxyPromptSegmentLib.data.small_sets import load_small_set, small_set_names
from ProxyPromptSegmentLib.data.splits import PARTS, Split, split
from ProxyPromptSegmentLib.errors import InputError


def data_set_names(root: Path) -> list[str]:
    """Return the names of the data sets that a folder holds: described ones, small ones of its manifest, known ones."""
    small = small_set_names(root) if (root / "manifest.csv").is_file() else []
    return sorted({*described_names(root), *small, *(known for known in DATASETS if (root / known).is_dir())})


def load_parts(root: Path, name: str) -> Split:
    """Read the cases of a data set, divided by patient.

    A description in the folder comes first; then the sets that the program knows, and the small sets of the manifest.

    Args:
        root: Folder of the data sets.
        name: Name of the set.

    Raises:
        InputError: If there is no such set, or it cannot be read.
    """
    root = Path(root)
    described = described_names(root)
    if name in described:
        return load_described(root, name)
    if name in DATASETS:
        return split(load_dataset(root, name), name)
    small = small_set_names(root) if (root / "manifest.csv").is_file() else []
    if name in small:
        parts = load_small_set(root, name).parts
        return Split(**{part: parts[part] for part in PARTS})
    there = ", ".join(data_set_names(root))
    foreign = ", ".join(file.relative_to(root).as_posix() for file in foreign_files(root))
    other = f" Other programs wrote {foreign}, which describes none." if foreign else ""
    raise InputError(
        f"there is no data set '{name}' in {root}; there are: {there or 'none'}. Name one of these, or describe yours "
        f"in a file dataset.json, see Docs/data.md.{other}"
    )
