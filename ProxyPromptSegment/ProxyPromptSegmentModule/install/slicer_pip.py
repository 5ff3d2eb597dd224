"""What Slicer offers for installing packages, behind one small face, so that tests need no Slicer.

The functions of Slicer and of the extension PyTorch have changed their keywords before; only those are passed that the
function has.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TextIO

REQUESTER = "Proxy Prompt Segment"


class InstallTools(Protocol):
    """What `first_run` needs; main thread only. Each call ends when its work has ended, and raises where it failed."""

    def testing(self) -> bool:
        """Whether Slicer runs its tests, in which nothing is asked and nothing installed."""

    def has_pytorch_extension(self) -> bool:
        """Whether the extension PyTorch is there."""

    def install_torch(self, requirement: str) -> None:
        """Installs torch and torchvision through the extension; ``requirement`` like ``">=2.6"``."""

    def ensure(self, requirements: Sequence[str], constraints: Path) -> None:
        """Installs what is missing of some requirements; the user has agreed already."""

    def pip(self, arguments: Sequence[str]) -> None:
        """``pip install`` with these arguments."""


def suitable(function: Callable[..., object], keywords: dict[str, object]) -> dict[str, object]:
    """Those keywords that a function takes."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return keywords
    return {name: value for name, value in keywords.items() if name in parameters}


class SlicerTools:
    """The real ones."""

    def testing(self) -> bool:
        """See `InstallTools`."""
        import slicer

        try:
            app = slicer.app
        except AttributeError:  # PythonSlicer has none
            return False
        return bool(app.testingEnabled())

    def has_pytorch_extension(self) -> bool:
        """See `InstallTools`."""
        try:
            import PyTorchUtils
        except ImportError:
            return False
        return hasattr(PyTorchUtils, "PyTorchUtilsLogic")  # another module of this name has none

    def install_torch(self, requirement: str) -> None:
        """See `InstallTools`."""
        import PyTorchUtils

        install = PyTorchUtils.PyTorchUtilsLogic().installTorch
        install(**suitable(install, {"askConfirmation": False, "torchVersionRequirement": requirement}))

    def ensure(self, requirements: Sequence[str], constraints: Path) -> None:
        """See `InstallTools`."""
        try:
            from slicer.packaging import pip_ensure
        except ImportError:  # before Slicer 5.12
            self.pip([*requirements, "-c", str(constraints)])
            return
        keywords = {"constraints": str(constraints), "requester": REQUESTER, "prompt_install": False}
        pip_ensure(list(requirements), **suitable(pip_ensure, keywords))

    def pip(self, arguments: Sequence[str]) -> None:
        """See `InstallTools`."""
        import slicer.util

        install = slicer.util.pip_install
        install(list(arguments), **suitable(install, {"requester": REQUESTER}))


class _Tee:
    """Passes on what is written, and remembers its last lines."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream, self.lines = stream, [""]

    def write(self, text: str) -> int:
        """Takes text, in any pieces."""
        first, *rest = text.split("\n")
        self.lines = [*self.lines[:-1], self.lines[-1] + first, *rest][-200:]
        if self.stream is not None:
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Passes it on."""
        if self.stream is not None:
            self.stream.flush()

    def __getattr__(self, name: str) -> object:
        """Whatever else a stream is asked for."""
        return getattr(self.stream, name)


@contextlib.contextmanager
def overheard() -> Iterator[list[str]]:
    """Remembers what is printed inside, because Slicer prints what pip says and raises without it.

    Yields:
        A list that has the lines once the block has ended.
    """
    tee = _Tee(sys.stdout)
    lines: list[str] = []
    try:
        with contextlib.redirect_stdout(tee):
            yield lines
    finally:
        lines.extend(line.strip() for line in tee.lines if line.strip())


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Sets variables of the environment, which pip inherits, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
