"""Where the library of annotated cases lies, and where it must not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

LIBRARY_VARIABLE = "PROXYPROMPT_LIBRARY"
_APPLICATION = "proxypromptsegment"


def library_folder() -> Path:
    """The folder that ``PROXYPROMPT_LIBRARY`` names, or one in the system's folder for a user's data."""
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    try:
        from platformdirs import user_data_path
    except ImportError:  # Slicer lists the library before anything is installed
        return _user_data() / _APPLICATION / "library"
    return user_data_path(_APPLICATION, appauthor=False) / "library"


def _user_data() -> Path:
    """The system's folder for a user's data, as platformdirs has it."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME", "").strip() or Path.home() / ".local" / "share")


def install_folders() -> list[Path]:
    """Where the program and Python are installed; a folder that the user's own lies in is none of them."""
    package = Path(__file__).resolve().parent
    home = Path.home().resolve()
    roots = [package.parent, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    return [package, *(root for root in roots if not home.is_relative_to(root))]
