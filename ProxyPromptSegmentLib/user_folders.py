"""Folders of caches, the support library and the user's registry: outside the installation, the same everywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "PROXYPROMPT_CACHE"
LIBRARY_VARIABLE = "PROXYPROMPT_LIBRARY"
REGISTRY_VARIABLE = "PROXYPROMPT_REGISTRY"
SUPPORTS_VARIABLE, OFF = "PROXYPROMPT_SUPPORTS", "off"
_APPLICATION = "proxypromptsegment"


def cache_folder() -> Path:
    """Return the folder of downloaded and imported weights.

    It is the one that ``PROXYPROMPT_CACHE`` names, or one in the system's folder for caches.
    """
    return _named(CACHE_VARIABLE) or Path(_platformdirs().user_cache_dir(_APPLICATION, appauthor=False))


def library_folder() -> Path:
    """Return the folder of the support library.

    It is the one that ``PROXYPROMPT_LIBRARY`` names, or one in the system's folder for a user's data.
    """
    return _named(LIBRARY_VARIABLE) or Path(_platformdirs().user_data_dir(_APPLICATION, appauthor=False)) / "library"


def supports_folder() -> Path | None:
    """Return the folder of prepared supports, see `worker.kept_supports`; None where none are kept.

    It is the one that ``PROXYPROMPT_SUPPORTS`` names, which may be ``off``, or one in the user's own folder for caches,
    even where weights are shared: it holds what was computed from a patient's images.
    """
    if os.environ.get(SUPPORTS_VARIABLE, "").strip().lower() == OFF:
        return None
    own = Path(_platformdirs().user_cache_dir(_APPLICATION, appauthor=False)) / "supports"
    return _named(SUPPORTS_VARIABLE) or own


def user_registry() -> Path:
    """Return the file of the user's own registry entries.

    It is the one that ``PROXYPROMPT_REGISTRY`` names, or one in the system's folder for configuration.
    """
    own = Path(_platformdirs().user_config_dir(_APPLICATION, appauthor=False)) / "registry.json"
    return _named(REGISTRY_VARIABLE) or own


def install_folders() -> list[Path]:
    """Return the folders of the program and of Python, except those that contain the user's home folder."""
    package = Path(__file__).resolve().parent
    roots = [package.parent, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    try:
        home = Path.home().resolve()
    except (RuntimeError, OSError):  # a user without an entry and without HOME, as in containers
        return [package, *roots]
    return [package, *(root for root in roots if not home.is_relative_to(root))]


def _named(variable: str) -> Path | None:
    """Return the path that an environment variable names, if it is set."""
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None


def _platformdirs() -> Any:
    """Return platformdirs, or pip's copy of it: Slicer shows the library before anything is installed."""
    try:
        import platformdirs
    except ImportError:
        from pip._vendor import platformdirs  # type: ignore[no-redef]
    return platformdirs
