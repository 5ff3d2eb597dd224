"""Finds the files that belong to the program and are no code: checkpoints, recipes, splits, model cards.

They lie in ``Resources/`` beside the package, in a checkout (which an editable installation uses in place)
as in an installed extension of 3D Slicer. A wheel carries them inside of the package, and there they win.
"""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError

_FOLDER = "Resources"


def resource_path(name: str, package: Path | None = None) -> Path:
    """The path of a file or folder of the program's resources.

    Args:
        name: Relative to the resource folder, with ``/`` between parts: ``"models/registry.json"``.
        package: Folder of the package, for tests.

    Raises:
        InputError: If it is not there, or ``name`` leaves the resource folder.
    """
    package = (package or Path(__file__).parent).resolve()
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"the resource name {name!r} leaves the folder {_FOLDER}; give a path inside of it.")
    for folder in (package / _FOLDER, package.parent / _FOLDER):
        if (folder / name).exists():
            return folder / name
    raise InputError(
        f"the program's file {_FOLDER}/{name} is missing in and beside {package}; install the program from a "
        "complete checkout, with `python3 setup_env.py install` or `pip install .`."
    )
