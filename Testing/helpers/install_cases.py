"""Wheels made by a test, stand-ins for Slicer's functions that install them, and packages of given versions."""

from __future__ import annotations

import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path

from ProxyPromptSegmentModule.install import installer
from ProxyPromptSegmentModule.install.packages import IMPORT_NAMES, Packages, normal, requirement_of

ROOT = Path(__file__).resolve().parents[2]
SAM2 = installer.sam2_pin()[0].partition(";")[0]


def make_wheel(folder: Path, name: str, version: str = "1.0", needs: tuple[str, ...] = ()) -> Path:
    """A wheel with one empty module, as pip takes it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": "".join(
            f"{line}\n"
            for line in ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}",
                         *(f"Requires-Dist: {need}" for need in needs))
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return folder


class Tools:
    """A stand-in for Slicer's functions that unpacks wheels into a folder, so that most tests need no pip."""

    def __init__(self, target: Path, wheels: Path | None = None, extension: bool = True, testing: bool = False) -> None:
        self.target, self.wheels, self.calls = target, wheels, []
        self.extension, self.in_test = extension, testing

    def testing(self) -> bool:
        return self.in_test

    def has_pytorch_extension(self) -> bool:
        return self.extension

    def install_torch(self, requirement: str) -> None:
        self.calls.append(("extension", requirement))
        self._run([f"enginetorch{requirement}"])

    def ensure(self, requirements, constraints: Path) -> None:
        self.calls.append(("ensure", tuple(requirements), constraints.read_text().splitlines()))
        self._run([*requirements, "-c", str(constraints)])

    def pip(self, arguments) -> None:
        self.calls.append(("pip", tuple(arguments), os.environ.get("SAM2_BUILD_CUDA")))
        self._run(arguments)

    def _run(self, arguments) -> None:
        named = {requirement_of(word).name for word in arguments if word.startswith("engine")}
        if "engine" in named and "--no-deps" not in arguments:
            named.add("enginebase")
        for wheel in sorted(self.wheels.glob("*.whl")):
            if wheel.name.split("-")[0] in named:
                zipfile.ZipFile(wheel).extractall(self.target)


class PipTools(Tools):
    """The same with the real pip."""

    def _run(self, arguments) -> None:
        source = ["--no-index"] + (["--find-links", str(self.wheels)] if self.wheels else [])
        command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--no-compile", "--target", str(self.target), *source, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        print(done.stdout + done.stderr)  # as Slicer's functions do
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, "pip install")


def yes(text: str) -> bool:
    return True


class Versions(Packages):
    """Packages with given versions."""

    def __init__(self, **versions: str) -> None:
        super().__init__([])
        self.versions = {normal(name): version for name, version in versions.items()}

    def _distribution(self, name):
        version = self.versions.get(normal(name))
        return version and types.SimpleNamespace(version=version, requires=[])

    def _importable(self, name):
        return any(IMPORT_NAMES.get(own, own) == name for own in self.versions)
