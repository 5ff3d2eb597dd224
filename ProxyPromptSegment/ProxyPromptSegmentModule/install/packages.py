"""The installed Python packages, read from their metadata: takes a tenth of a second, because nothing is imported."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib import machinery, metadata
from pathlib import Path
from typing import Protocol

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
# Import names of the packages that the program itself uses; for other packages the metadata has to suffice.
IMPORT_NAMES = {
    "einops": "einops", "filelock": "filelock", "hydra-core": "hydra", "iopath": "iopath", "numpy": "numpy",
    "peft": "peft", "platformdirs": "platformdirs", "pynrrd": "nrrd", "safetensors": "safetensors", "sam2": "sam2",
    "scipy": "scipy", "segment-anything": "segment_anything", "simpleitk": "SimpleITK", "slicerio": "slicerio",
    "torch": "torch", "torchvision": "torchvision", "transformers": "transformers",
}  # fmt: skip
INTEL_MAC = sys.platform == "darwin" and platform.machine() == "x86_64"
# Parts of Slicer that other modules are using while it runs: their versions are never changed. For Macs with Intel
# processors (Slicer for macOS is built for them) the last PyTorch works with NumPy 1 only, so NumPy is replaced there.
SLICERS_OWN = ("scipy", "simpleitk") if INTEL_MAC else ("numpy", "scipy", "simpleitk")
# Installed parts of PyTorch stay as well: the extension PyTorch has chosen them for the graphics card.
HELD = (*SLICERS_OWN, "torch", "torchvision")


class Specifier(Protocol):
    """A set of versions."""

    def contains(self, item: str, prereleases: bool | None = None) -> bool:
        """Return whether it contains a version."""


class Marker(Protocol):
    """The condition of a requirement."""

    def evaluate(self, environment: dict[str, str]) -> bool:
        """Return whether it holds in this environment."""


class Requirement(Protocol):
    """The part of `packaging.requirements.Requirement` that is used here."""

    @property
    def name(self) -> str:
        """Name of the package."""

    @property
    def specifier(self) -> Specifier:
        """Versions that fulfil it."""

    @property
    def marker(self) -> Marker | None:
        """Condition under which it applies; None means always."""


def requirement_of(line: str) -> Requirement:
    """Parse a line such as ``"numpy>=2.0; python_version > '3.9'"``."""
    try:
        from packaging import requirements
    except ImportError:  # pip has its own copy
        from pip._vendor.packaging import requirements  # type: ignore[no-redef]
    made: Requirement = requirements.Requirement(line)
    return made


def applies(line: str) -> bool:
    """Return whether a requirement's marker, if it has one, holds for this Python on this system."""
    marker = requirement_of(line).marker
    return marker is None or bool(marker.evaluate({"extra": ""}))


def normal(name: str) -> str:
    """Normalise a package's name as package indexes do."""
    return name.lower().replace("_", "-").replace(".", "-")


def read_requirements(file: Path) -> list[str]:
    """Read the lines of a requirements or constraints file, without comments."""
    lines = [line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


class Packages:
    """The packages that are installed in this Python.

    Args:
        path: Folders to search; by default those of `sys.path`.
    """

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = None if path is None else [str(folder) for folder in path]

    def version(self, name: str) -> str | None:
        """Return the installed version; "" if it has none, None if the package is not installed."""
        name = normal(name)
        distribution, imported = self._distribution(name), IMPORT_NAMES.get(name)
        if imported is not None and not self._importable(imported):
            return None
        if distribution is not None:
            return distribution.version
        return "" if name in SLICERS_OWN else None

    def _importable(self, name: str) -> bool:
        """Return whether a package of this name could be imported; imports nothing."""
        if self._path is not None:
            return machinery.PathFinder.find_spec(name, self._path) is not None
        try:
            return importlib.util.find_spec(name) is not None
        except ValueError:  # in sys.modules, without a spec
            return True

    def unmet(self, lines: Iterable[str]) -> list[str]:
        """Return requirements that are missing or have an unsuitable version, including transitive ones.

        This also detects an interrupted installation, in which a package is installed but not its dependencies.

        Args:
            lines: Requirements, each with an optional marker.
        """
        importlib.invalidate_caches()
        found: dict[str, str] = {}
        seen: set[str] = set()
        level, top = list(lines), True
        while level:  # level by level, so that our own version ranges are reported, not those of others
            below: list[str] = []
            for requirement in map(requirement_of, filter(applies, level)):
                name = normal(requirement.name)
                if not self._suits(requirement, top):
                    found.setdefault(name, f"{requirement.name}{requirement.specifier}")
                elif name not in seen:
                    seen.add(name)
                    below += self._needs(name)
            level, top = below, False
        return list(found.values())

    def _suits(self, requirement: Requirement, ours: bool) -> bool:
        """Return whether a suitable version is installed; ``ours``: whether we need it, not another package."""
        version = self.version(requirement.name)
        if version is None:
            return False
        # Slicer's own packages stay, whatever other packages require of them.
        kept = version == "" or (not ours and normal(requirement.name) in SLICERS_OWN)
        return kept or requirement.specifier.contains(version, True)

    def _needs(self, name: str) -> list[str]:
        """Return the requirements of an installed package, without extras."""
        distribution = self._distribution(name)
        lines = (distribution.requires or []) if distribution is not None and name not in SLICERS_OWN else []
        return [line for line in lines if "extra" not in line.partition(";")[2]]

    def _distribution(self, name: str) -> metadata.Distribution | None:
        """Return a package's metadata, or None."""
        if self._path is None:
            try:
                return metadata.distribution(name)
            except metadata.PackageNotFoundError:
                return None
        return next(iter(metadata.distributions(name=name, path=self._path)), None)

    def constraints(self, pins: Iterable[str], unmet: Iterable[str]) -> list[str]:
        """Return lines for pip's ``-c``: tested versions of new packages, current versions of those that must stay.

        Packages that Slicer or another extension has installed get no line, so pip keeps them where possible.

        Args:
            pins: Lines of the program's constraints file.
            unmet: The result of `unmet`.
        """
        new = {normal(requirement_of(line).name) for line in unmet}
        lines = [f"{name}=={version}" for name in HELD if name not in new and (version := self.version(name))]
        for line in filter(applies, pins):
            name = normal(requirement_of(line).name)
            if name in new or self._distribution(name) is None and name not in HELD:
                lines.append(line)
        return lines
