"""Slicer's functions for installing packages behind a small interface, so that tests do not need Slicer.

The keywords of these functions differ between versions of Slicer and of the extension PyTorch; only keywords that a
function accepts are passed.
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
    """Functions that the installer needs; main thread only. Each blocks until it is done, and raises if it fails."""

    def testing(self) -> bool:
        """Return whether Slicer runs in testing mode, in which nothing is asked or installed."""

    def has_pytorch_extension(self) -> bool:
        """Return whether the extension PyTorch is installed."""

    def install_torch(self, requirement: str) -> None:
        """Install torch through the extension; ``requirement`` like ``">=2.2"``."""

    def ensure(self, requirements: Sequence[str], constraints: Path) -> None:
        """Install those requirements that are missing; the user has already agreed."""

    def pip(self, arguments: Sequence[str]) -> None:
        """Run ``pip install`` with these arguments."""


def suitable(function: Callable[..., object], keywords: dict[str, object]) -> dict[str, object]:
    """Return those keywords that a function accepts."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return keywords
    return {name: value for name, value in keywords.items() if name in parameters}


class SlicerTools:
    """The functions of the running Slicer."""

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
        return hasattr(PyTorchUtils, "PyTorchUtilsLogic")  # other modules of this name lack it

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
    """A text stream that forwards its input to another one and keeps the last lines."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream, self.lines = stream, [""]

    def write(self, text: str) -> int:
        """Forward text and keep it."""
        first, *rest = text.split("\n")
        self.lines = [*self.lines[:-1], self.lines[-1] + first, *rest][-200:]
        if self.stream is not None:
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
        if self.stream is not None:
            self.stream.flush()

    def __getattr__(self, name: str) -> object:
        """Return any other attribute of the other stream."""
        return getattr(self.stream, name)


@contextlib.contextmanager
def overheard() -> Iterator[list[str]]:
    """Record what is printed inside the block: Slicer prints the output of pip but leaves it out of its exceptions.

    Yields:
        A list that contains the lines after the block.
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
    """Set environment variables, which pip inherits, during the block."""
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
