"""Loading of large packages: what it costs beside their own code, and what of them nothing here uses."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


@dataclass(frozen=True)
class Later:
    """A module that is executed when it is used.

    Attributes:
        name: Its name.
        before: Another module that can only be imported after it, and need not say so.
    """

    name: str
    before: str = ""


TORCH_LATER = Later("torch._meta_registrations", before="torch._dynamo")
"""Shapes and decompositions of operators for compilers and tensors without values: a third of PyTorch's import."""

SCIPY_LATER = Later("numpy.f2py")
"""A translator of Fortran, which SciPy imports because it copies every name of NumPy."""


def threads_sleep() -> None:
    """Let PyTorch's threads sleep while they wait for one another, unless the user chose otherwise; call it before.

    OpenMP reads it from the environment when PyTorch is loaded. Its threads would otherwise look again and again
    whether the others have ended, and beside other work take the cores from those that they wait for, see
    Docs/results/speed.md.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def loading(*later: Later, stays: bool = False) -> Iterator[None]:
    """Load packages for as long as a block lasts, without what makes it slow.

    The search for unreachable objects is stopped meanwhile: it reads hundreds of thousands of new objects again and
    again, and all of them are still needed.

    Args:
        later: Modules that are not executed before one of their names is asked for. Those that are loaded already, or
            that the installed version of a package does not have, are left alone.
        stays: Whether what was loaded is left out of every later search, and of the one at the process's end, which
            takes a third as long as PyTorch's import. Only for a process of the program's own, because it counts for
            all objects that there are.
    """
    searching, modules = gc.isenabled(), len(sys.modules)
    finder = _Finder([one for one in later if one.name not in sys.modules])
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        yield
    finally:
        finder.only_watch()
        if stays and len(sys.modules) > modules:
            gc.freeze()
        if searching:
            gc.enable()


class _Later(ModuleType):
    """A module whose code runs when a name is read that only its code defines."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # asked of every module by whatever looks through all of them
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        _execute(self)
        return getattr(self, name)


class _LaterLoader(Loader):
    """Makes a `_Later`, and executes it with the loader that it would have had."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Later(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing yet."""


def _execute(module: ModuleType) -> None:
    """Make it an ordinary module, and execute it."""
    assert module.__spec__ is not None and isinstance(module.__spec__.loader, _LaterLoader)
    own = module.__spec__.loader.own
    module.__class__ = ModuleType
    module.__loader__ = module.__spec__.loader = own
    own.exec_module(module)


class _Finder:
    """Finds the modules that are executed later, and executes them before what needs them."""

    def __init__(self, later: Sequence[Later]) -> None:
        self._later, self._postponing = later, True

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for one in self._later:
            waiting = sys.modules.get(one.name)
            if one.before == name and isinstance(waiting, _Later):
                _execute(waiting)
            elif one.name == name and self._postponing:
                spec = PathFinder.find_spec(name, path, target)
                if spec is not None and spec.loader is not None:
                    spec.loader = _LaterLoader(spec.loader)
                return spec
        return None

    def only_watch(self) -> None:
        """Postpone no more modules; stay only where one that waits has to be executed before another."""
        self._postponing = False
        self._later = [one for one in self._later if one.before and isinstance(sys.modules.get(one.name), _Later)]
        if not self._later:
            sys.meta_path.remove(self)
