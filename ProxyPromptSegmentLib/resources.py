"""Locations of the program's data files: checkpoints, recipes, splits, model cards.

They are in ``Resources/`` next to the package, in a checkout (which an editable installation uses in place)
and in an installed extension of 3D Slicer. A wheel has them inside the package; these take precedence.
"""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

_FOLDER = "Resources"


def resource_path(name: str, package: Path | None = None) -> Path:
    """Return the path of a resource file or folder.

    Args:
        name: Relative to the resource folder, with ``/`` between parts: ``"models/registry.json"``.
        package: Folder of the package, for tests.

    Raises:
        InputError: If it does not exist, or ``name`` leaves the resource folder.
    """
    package = (package or Path(__file__).parent).resolve()
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"the resource name {name!r} leaves the folder {_FOLDER}; give a path inside it.")
    for folder in (package / _FOLDER, package.parent / _FOLDER):
        if (folder / name).exists():
            return folder / name
    raise InputError(
        f"the program's file {_FOLDER}/{name} is missing in and beside {package}",
        Remedy(kind=RemedyKind.REINSTALL_PROGRAM),
    )
