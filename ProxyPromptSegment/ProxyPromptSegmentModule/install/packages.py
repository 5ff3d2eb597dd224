"""Which Python packages are there, read from their metadata: nothing is imported, so it costs a tenth of a second."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from importlib import machinery, metadata
from pathlib import Path
from typing import Protocol

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
# What is imported of the packages that the program itself uses; of the others their metadata must do.
IMPORT_NAMES = {
    "einops": "einops", "filelock": "filelock", "hydra-core": "hydra", "iopath": "iopath", "numpy": "numpy",
    "peft": "peft", "platformdirs": "platformdirs", "pynrrd": "nrrd", "safetensors": "safetensors", "sam2": "sam2",
    "scipy": "scipy", "segment-anything": "segment_anything", "simpleitk": "SimpleITK", "slicerio": "slicerio",
    "torch": "torch", "torchvision": "torchvision",
}  # fmt: skip
# Slicer brings these, and other modules use them while it runs: whatever version it has stays.
SLICERS_OWN = ("numpy", "scipy", "simpleitk")
# Once they are there, PyTorch's parts stay as the extension PyTorch has chosen them for the graphics card.
HELD = (*SLICERS_OWN, "torch", "torchvision")


class Specifier(Protocol):
    """Versions that suit."""

    def contains(self, item: str, prereleases: bool | None = None) -> bool:
        """Whether a version is one of them."""


class Marker(Protocol):
    """Where a requirement holds."""

    def evaluate(self, environment: dict[str, str]) -> bool:
        """Whether it holds here."""


class Requirement(Protocol):
    """What is used of a `packaging.requirements.Requirement`."""

    @property
    def name(self) -> str:
        """The package."""

    @property
    def specifier(self) -> Specifier:
        """Its versions."""

    @property
    def marker(self) -> Marker | None:
        """Where it is needed; None means everywhere."""


def requirement_of(line: str) -> Requirement:
    """The requirement of a line such as ``"numpy>=2.0; python_version > '3.9'"``."""
    try:
        from packaging import requirements
    except ImportError:  # pip has one for itself
        from pip._vendor.packaging import requirements  # type: ignore[no-redef]
    made: Requirement = requirements.Requirement(line)
    return made


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def read_requirements(file: Path) -> list[str]:
    """The lines of a requirements or constraints file without comments."""
    lines = [line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


class Packages:
    """The packages of this Python.

    Args:
        path: Folders to look in; by default those of `sys.path`.
    """

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = None if path is None else [str(folder) for folder in path]

    def version(self, name: str) -> str | None:
        """The installed version; "" if it is there without saying its version, None if it is not there."""
        name = normal(name)
        distribution, imported = self._distribution(name), IMPORT_NAMES.get(name)
        if imported is not None and not self._importable(imported):
            return None
        if distribution is not None:
            return distribution.version
        return "" if name in SLICERS_OWN else None

    def _importable(self, name: str) -> bool:
        """Whether there is a package of this name to import; imports nothing."""
        if self._path is not None:
            return machinery.PathFinder.find_spec(name, self._path) is not None
        try:
            return importlib.util.find_spec(name) is not None
        except ValueError:  # in sys.modules, and made by hand
            return True

    def unmet(self, lines: Iterable[str]) -> list[str]:
        """What is missing or has an unsuitable version, with whatever those packages need in turn.

        This finds an installation that broke off: the package is there, something that it needs is not.

        Args:
            lines: Requirements, each with an optional marker.
        """
        importlib.invalidate_caches()
        found: dict[str, str] = {}
        seen: set[str] = set()
        level, top = list(lines), True
        while level:  # level by level, so that our own ranges are told and not those of other packages
            below: list[str] = []
            for requirement in map(requirement_of, level):
                name = normal(requirement.name)
                if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                    continue
                if not self._suits(requirement, top):
                    found.setdefault(name, f"{requirement.name}{requirement.specifier}")
                elif name not in seen:
                    seen.add(name)
                    below += self._needs(name)
            level, top = below, False
        return list(found.values())

    def _suits(self, requirement: Requirement, ours: bool) -> bool:
        """Whether the package is there in a suitable version; ``ours``: whether we need it or another package does."""
        version = self.version(requirement.name)
        if version is None:
            return False
        # What others ask of Slicer's own packages changes nothing: they stay.
        kept = version == "" or (not ours and normal(requirement.name) in SLICERS_OWN)
        return kept or requirement.specifier.contains(version, True)

    def _needs(self, name: str) -> list[str]:
        """What an installed package needs, extras apart."""
        distribution = self._distribution(name)
        lines = (distribution.requires or []) if distribution is not None and name not in SLICERS_OWN else []
        return [line for line in lines if "extra" not in line.partition(";")[2]]

    def _distribution(self, name: str) -> metadata.Distribution | None:
        """A package's metadata."""
        if self._path is None:
            try:
                return metadata.distribution(name)
            except metadata.PackageNotFoundError:
                return None
        return next(iter(metadata.distributions(name=name, path=self._path)), None)

    def constraints(self, pins: Iterable[str], unmet: Iterable[str]) -> list[str]:
        """Lines for pip's ``-c``: tested versions of what is new, and a hold on what must stay as it is.

        What Slicer or another extension has installed already gets no line, so pip leaves it alone where it can.

        Args:
            pins: Lines of the program's constraints file.
            unmet: What `unmet` has found.
        """
        new = {normal(requirement_of(line).name) for line in unmet}
        lines = [f"{name}=={version}" for name in HELD if name not in new and (version := self.version(name))]
        for line in pins:
            name = normal(requirement_of(line).name)
            if name in new or self._distribution(name) is None and name not in HELD:
                lines.append(line)
        return lines
