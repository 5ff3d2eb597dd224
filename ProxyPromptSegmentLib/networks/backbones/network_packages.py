"""Imports of the packages that hold the networks, without torchvision.

``segment_anything`` and ``peft`` (through ``transformers``) import torchvision for functions that are not used here.
Inside 3D Slicer that import has crashed the process, beside a torch of another build it fails, and with everything that
follows it takes seconds. ``sam2.modeling`` does without.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

_SAM_ALIAS = "ProxyPromptSegmentLib.networks.backbones.segment_anything_modeling"
_lock = threading.RLock()


def segment_anything_modeling() -> ModuleType:
    """Import ``segment_anything.modeling`` alone.

    The package's own ``__init__`` is not executed: the folder ``modeling``, whose files import only each other and
    torch, is loaded under a name of its own, so that an ordinary ``import segment_anything`` stays what it is.

    Raises:
        ModuleNotFoundError: If segment-anything is not installed.
    """
    with _lock:
        if _SAM_ALIAS in sys.modules:
            return sys.modules[_SAM_ALIAS]
        package = importlib.util.find_spec("segment_anything")
        if package is None or not package.submodule_search_locations:
            raise ModuleNotFoundError("No module named 'segment_anything'", name="segment_anything")
        folder = Path(package.submodule_search_locations[0]) / "modeling"
        spec = importlib.util.spec_from_file_location(
            _SAM_ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[_SAM_ALIAS] = module  # its files look for it there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            for name in [name for name in sys.modules if name.startswith(_SAM_ALIAS)]:
                del sys.modules[name]
            raise
        return module


def peft() -> ModuleType:
    """Import ``peft``, the library of LoRA adapters; only models that have adapters need it."""
    with _lock, _torchvision_hidden():
        import peft

        return peft


@contextlib.contextmanager
def _torchvision_hidden() -> Iterator[None]:
    """Let ``transformers`` find no torchvision, which is optional there, for as long as a block lasts."""
    if "torchvision" in sys.modules:
        yield
        return
    sys.modules["torchvision"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torchvision"]
        # transformers remembers the answer, and another program in this process may need the true one.
        remembered = getattr(sys.modules.get("transformers.utils.import_utils"), "is_torchvision_available", None)
        getattr(remembered, "cache_clear", lambda: None)()
