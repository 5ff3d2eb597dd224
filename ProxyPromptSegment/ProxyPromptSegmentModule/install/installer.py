"""The first run in Slicer: says which packages are missing, asks once, and installs them.

Only on the user's request and on the main thread; never at import and never in a constructor. PyTorch comes through the
extension PyTorch, which knows the graphics card; the rest through Slicer's own functions. SAM 2 has to be built beside
PyTorch and may fail to, so it is tried last, and without it everything else works.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentModule.install.messages import (
    consent,
    extension_help,
    failure,
    no_extension,
    sam2_failed,
)
from ProxyPromptSegmentModule.install.packages import (
    REQUIREMENTS,
    SLICERS_OWN,
    Packages,
    normal,
    read_requirements,
    requirement_of,
)
from ProxyPromptSegmentModule.install.slicer_pip import InstallTools, SlicerTools, environment, overheard
from ProxyPromptSegmentModule.states import InstallState
from ProxyPromptSegmentModule.translation import _

TORCH = ("torch>=2.6", "torchvision")
# hydra-core and iopath are what SAM 2 needs beyond the rest; it is installed without its needs, which name PyTorch.
SAM2_NEEDS = ("hydra-core>=1.3.2", "iopath>=0.1.10")
SAM2 = "sam2==1.1.0"
# The file that setup_env.py pins, for the same reason.
SAM2_HASH = "sha256:7e0ea252d43c10d853e3acfce0b5770ac683c30481bd6de311300e9d44f45b74"
# On Linux the default index has PyTorch for NVIDIA cards alone.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an installation.

    Attributes:
        state: How it has ended; ``ready`` means that models can run now.
        text: Plain sentences for the user: what is there, or what went wrong and what to do.
        missing: What is missing now, by `Requirements.missing`.
    """

    state: InstallState
    text: str
    missing: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether models can run now."""
        return self.state == InstallState.READY


class Requirements:
    """The packages that the module needs beyond what Slicer has.

    Args:
        tools: Slicer's functions; replaced in tests.
        packages: The packages of this Python; those of another folder in tests.
        lines: What is needed beside PyTorch; by default the module's requirements.txt.
        torch: What is needed of PyTorch.
        sam2: Whether SAM 2 is wanted as well.
    """

    def __init__(
        self,
        tools: InstallTools | None = None,
        packages: Packages | None = None,
        lines: Sequence[str] | None = None,
        torch: Sequence[str] = TORCH,
        sam2: bool = True,
    ) -> None:
        self._tools = tools or SlicerTools()
        self._packages = packages or Packages()
        self._lines, self._torch, self._sam2 = lines, tuple(torch), sam2

    def missing(self) -> list[str]:
        """What has to be installed before a model can run, as requirements; empty if nothing. Imports nothing."""
        return self._packages.unmet([*self._torch, *self._others()])

    def missing_for_sam2(self) -> list[str]:
        """What has to be installed beyond `missing` before a SAM 2 model can run; empty if nothing, or not wanted."""
        if not self._sam2:
            return []
        base = self.missing()
        return [line for line in self._packages.unmet([*SAM2_NEEDS, SAM2]) if line not in base]

    def describe(self) -> str:
        """The text to agree to: what is missing, how much it is, from where and what for; "" if nothing is missing."""
        missing, extra = self.missing(), self.missing_for_sam2()
        if not missing and not extra:
            return ""
        text = consent(missing, extra, self._tools.has_pytorch_extension())
        return f"{text}\n\n{no_extension()}" if self._without_extension(missing) else text

    def install(self, ask: Callable[[str], bool], report: Callable[[str], None] = _log.info) -> Outcome:
        """Asks once, then installs what is missing; may be called again after a failure.

        Args:
            ask: Shows a text and returns whether the user agrees, such as `slicer.util.confirmOkCancelDisplay`.
            report: Told what begins, in a sentence.

        Raises:
            RuntimeError: If it is called from another thread than the main one: pip from a thread crashed Slicer.
        """
        self._check_thread()
        if not self.missing() and not self.missing_for_sam2():
            return Outcome(state=InstallState.READY, text=_("Everything is installed."))
        refusal = self._refusal()
        if refusal:
            return self._failed(refusal)
        if not ask(self.describe()):
            return self._declined()
        steps = [
            (_("Installing PyTorch; this takes some minutes."), self._install_torch),
            (_("Installing the other packages."), self._install_others),
        ]
        return self._run(steps, self._install_sam2, report)

    def install_from(self, folder: Path | str, report: Callable[[str], None] = _log.info) -> Outcome:
        """Installs from a folder of wheels without a network; to be called is consent.

        Args:
            folder: What ``pip download`` or ``pip wheel`` has made on another computer; see `offline_help`.
            report: Told what begins, in a sentence.
        """
        self._check_thread()
        if not Path(folder).is_dir():
            return self._failed(_("There is no folder {folder}.").format(folder=folder))
        source = ["--no-index", "--find-links", str(folder)]
        steps = [(_("Installing from {folder}.").format(folder=folder), lambda: self._pip(self.missing(), source, []))]

        def sam2() -> None:
            self._pip([*SAM2_NEEDS], source, [])
            with environment(SAM2_BUILD_CUDA="0"):
                self._tools.pip([*source, "--no-deps", "--no-build-isolation", SAM2])

        return self._run(steps, sam2, report)

    def _others(self) -> list[str]:
        return list(read_requirements(REQUIREMENTS) if self._lines is None else self._lines)

    def _without_extension(self, missing: Sequence[str]) -> bool:
        return self._lacks_torch(missing) and not self._tools.has_pytorch_extension()

    def _lacks_torch(self, missing: Sequence[str]) -> bool:
        own = {normal(requirement_of(line).name) for line in self._torch}
        return any(normal(requirement_of(line).name) in own for line in missing)

    def _check_thread(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "packages can be installed from the main thread only; pip from a thread has crashed Slicer"
            )

    def _refusal(self) -> str:
        """Why installing would be wrong here; "" if it would not."""
        if self._tools.testing():
            return _("Slicer runs in testing mode, in which nothing is installed.")
        for line in self.missing():
            requirement = requirement_of(line)
            version = self._packages.version(requirement.name)
            if normal(requirement.name) in SLICERS_OWN and version:
                return _(
                    "This Slicer has {name} {version}, and {line} is needed. It is a part of Slicer and is not "
                    "replaced; use Slicer 5.10 or newer."
                ).format(name=requirement.name, version=version, line=line)
        return ""

    def _run(
        self,
        steps: Sequence[tuple[str, Callable[[], None]]],
        sam2: Callable[[], None],
        report: Callable[[str], None],
    ) -> Outcome:
        """Takes the steps; whatever a step says, what counts is what is there afterwards."""
        for sentence, step in steps:
            reason = self._try(sentence, step, report) if self.missing() else ""
            if reason:
                return self._failed(reason)
        missing = self.missing()
        if missing:
            text = _("The installation ended without an error, but this is missing: {missing}.")
            return self._failed(text.format(missing=", ".join(missing)))
        text = _("Everything is installed.")
        if self.missing_for_sam2():
            reason = self._try(_("Installing SAM 2."), sam2, report)
            if self.missing_for_sam2():
                text = sam2_failed(reason)
        return Outcome(state=InstallState.READY, text=text)

    def _try(self, sentence: str, step: Callable[[], None], report: Callable[[str], None]) -> str:
        """Takes a step; returns the reason if it failed, else ""."""
        report(sentence)
        lines: list[str] = []
        try:
            with overheard() as lines:
                step()
        except Exception as error:
            _log.warning("installing packages failed", exc_info=True)
            return failure(error, lines)
        return ""

    def _declined(self) -> Outcome:
        missing = self.missing()
        if not missing:
            return Outcome(
                state=InstallState.READY,
                text=_("Nothing was installed; SAM 2 models stay unavailable, all others can be used."),
            )
        text = _("Nothing was installed, and without these packages nothing can be segmented.")
        if self._without_extension(missing):
            text = f"{text} {extension_help()}"
        return Outcome(state=InstallState.DECLINED, text=text, missing=tuple(missing))

    def _failed(self, reason: str) -> Outcome:
        return Outcome(state=InstallState.FAILED, text=reason, missing=tuple(self.missing()))

    def _install_torch(self) -> None:
        """PyTorch and torchvision; without the extension the build for the processor alone, as `describe` has said."""
        if not self._lacks_torch(self.missing()):
            return
        if self._tools.has_pytorch_extension():
            self._tools.install_torch(str(requirement_of(self._torch[0]).specifier))
            return
        index = ["--index-url", CPU_INDEX] if sys.platform == "linux" else []
        pins = self._pins()
        if index:
            # Without their needs: only these two may come from there.
            self._pip(self._torch, [*index, "--no-deps"], pins)
        self._pip(self._torch, [], pins)

    def _install_others(self) -> None:
        unmet = self.missing()
        if unmet:
            with _file_of(self._packages.constraints(self._pins(), unmet)) as constraints:
                self._tools.ensure(unmet, constraints)

    def _install_sam2(self) -> None:
        needs = self._packages.unmet(SAM2_NEEDS)
        if needs:
            with _file_of(self._packages.constraints(self._pins(), needs)) as constraints:
                self._tools.ensure(needs, constraints)
        with environment(SAM2_BUILD_CUDA="0"), _file_of([f"{SAM2} --hash={SAM2_HASH}"]) as listed:
            self._tools.pip(["--no-deps", "--no-build-isolation", "-r", str(listed)])

    def _pip(self, lines: Sequence[str], options: Sequence[str], pins: Sequence[str]) -> None:
        with _file_of(self._packages.constraints(pins, self._packages.unmet(lines))) as constraints:
            self._tools.pip([*options, *lines, "-c", str(constraints)])

    def _pins(self) -> list[str]:
        """The tested versions."""
        return read_requirements(resource_path("constraints.txt"))


class _file_of:  # noqa: N801
    """A file of some lines for as long as a block lasts; closed, because Windows lets nobody else read an open one."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines

    def __enter__(self) -> Path:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines)
        self.path = Path(file.name)
        return self.path

    def __exit__(self, *ignored: object) -> None:
        with suppress(OSError):
            self.path.unlink()
