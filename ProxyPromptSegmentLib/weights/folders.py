"""Where weights and the user's own registry lie: outside of the installation, the same for the whole program."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "PROXYPROMPT_CACHE"
REGISTRY_VARIABLE = "PROXYPROMPT_REGISTRY"
_APPLICATION = "proxypromptsegment"


def cache_folder() -> Path:
    """The folder of downloaded and imported weights: what ``PROXYPROMPT_CACHE`` names, or the system's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path(_APPLICATION, appauthor=False)


def user_registry() -> Path:
    """The file of a user's own entries: what ``PROXYPROMPT_REGISTRY`` names, or one in the configuration folder."""
    named = os.environ.get(REGISTRY_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_config_path

    return user_config_path(_APPLICATION, appauthor=False) / "registry.json"
