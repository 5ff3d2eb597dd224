"""The installer for the first use in Slicer: lists missing packages, asks once, and installs them.

Packages are installed only on the user's request and on the main thread, never at import or in a constructor. PyTorch
is installed by the extension PyTorch, which selects the build for the graphics card; the other packages by Slicer's own
functions. SAM 2 has to be built against PyTorch, which may fail, so it is installed last, and it is optional.
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
from ProxyPromptSegmentLib.weights.availability import newer_torch_for
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
    applies,
    normal,
    read_requirements,
    requirement_of,
)
from ProxyPromptSegmentModule.install.slicer_pip import InstallTools, SlicerTools, environment, overheard
from ProxyPromptSegmentModule.states import InstallState
from ProxyPromptSegmentModule.translation import _

# On Windows, the longest path of torch 2.13 is too long for Slicer's folder.
TORCH = "torch!=2.13.*,>=2.2" if sys.platform == "win32" else "torch>=2.2"
# SAM 2 is installed without its dependencies, because they include PyTorch; these two are not needed otherwise.
SAM2_NEEDS = ("hydra-core>=1.3.2", "iopath>=0.1.10")
# On Linux the default index has PyTorch only for NVIDIA cards.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

_log = logging.getLogger(__name__)


def sam2_pin() -> tuple[str, str]:
    """Return the requirement of SAM 2 and the hash of its tested file: the pin that setup_env.py uses as well."""
    lines = resource_path("constraints.txt").read_text(encoding="utf-8").splitlines()
    pin, _comment, digest = next(line for line in lines if line.startswith("sam2==")).partition("# --hash=")
    return pin.strip(), digest.strip()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of an installation.

    Attributes:
        state: The final state; ``ready`` means that models can run now.
        text: Sentences for the user: the outcome, or what went wrong and what to do.
        missing: The requirements that are still missing, see `Requirements.missing`.
    """

    state: InstallState
    text: str
    missing: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether models can run now."""
        return self.state == InstallState.READY


class Requirements:
    """The packages that the module needs and Slicer lacks.

    Args:
        tools: Functions of Slicer; replaced in tests.
        packages: The installed packages; replaced in tests.
        lines: Requirements other than PyTorch; by default those of the module's requirements.txt.
        torch: Requirements of PyTorch.
        sam2: Whether to install SAM 2 as well.
    """

    def __init__(
        self,
        tools: InstallTools | None = None,
        packages: Packages | None = None,
        lines: Sequence[str] | None = None,
        torch: str = TORCH,
        sam2: bool = True,
    ) -> None:
        self._tools = tools or SlicerTools()
        self._packages = packages or Packages()
        self._lines, self._torch, self._sam2 = lines, torch, sam2

    def missing(self) -> list[str]:
        """Return the requirements to install before a model can run; imports nothing."""
        return self._packages.unmet([self._torch, *self._others()])

    def missing_for_sam2(self) -> list[str]:
        """Return the requirements beyond `missing` that a SAM 2 model needs.

        Empty if SAM 2 is not wanted, or if PyTorch is too old for it.
        """
        pin, _digest = sam2_pin()
        if not self._sam2 or not applies(pin) or newer_torch_for("sam2"):
            return []
        base = self.missing()
        return [line for line in self._packages.unmet([*SAM2_NEEDS, pin]) if line not in base]

    def describe(self) -> str:
        """Return the text of the consent dialog: packages, sizes, sources, purposes; "" if nothing is missing."""
        missing, extra = self.missing(), self.missing_for_sam2()
        if not missing and not extra:
            return ""
        text = consent(missing, extra, self._tools.has_pytorch_extension())
        return f"{text}\n\n{no_extension()}" if self._without_extension(missing) else text

    def install(self, ask: Callable[[str], bool], report: Callable[[str], None] = _log.info) -> Outcome:
        """Ask once, then install what is missing; can be called again after a failure.

        Args:
            ask: Shows a text and returns whether the user agrees, such as `slicer.util.confirmOkCancelDisplay`.
            report: Called with a sentence at the start of each step.

        Raises:
            RuntimeError: If it is not called from the main thread: pip in another thread has crashed Slicer.
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
        """Install from a folder of wheels, without a network; the call itself counts as consent.

        Args:
            folder: Output of ``pip download`` or ``pip wheel`` on another computer; see `offline_help`.
            report: Called with a sentence at the start of each step.
        """
        self._check_thread()
        if not Path(folder).is_dir():
            return self._failed(_("The folder {folder} does not exist.").format(folder=folder))
        source = ["--no-index", "--find-links", str(folder)]
        steps = [(_("Installing from {folder}.").format(folder=folder), lambda: self._pip(self.missing(), source, []))]

        def sam2() -> None:
            self._pip([*SAM2_NEEDS], source, [])
            with environment(SAM2_BUILD_CUDA="0"):
                self._tools.pip([*source, "--no-deps", "--no-build-isolation", sam2_pin()[0].partition(";")[0]])

        return self._run(steps, sam2, report)

    def _others(self) -> list[str]:
        return list(read_requirements(REQUIREMENTS) if self._lines is None else self._lines)

    def _without_extension(self, missing: Sequence[str]) -> bool:
        return self._lacks_torch(missing) and not self._tools.has_pytorch_extension()

    def _lacks_torch(self, missing: Sequence[str]) -> bool:
        own = normal(requirement_of(self._torch).name)
        return any(normal(requirement_of(line).name) == own for line in missing)

    def _check_thread(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "packages can be installed from the main thread only; pip from a thread has crashed Slicer"
            )

    def _refusal(self) -> str:
        """Return why nothing may be installed here, or ""."""
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
        """Run the steps; success is judged by the packages that are installed afterwards."""
        numpy = self._packages.version("numpy")
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
        if self._packages.version("numpy") != numpy:
            text = _("{text} Restart Slicer now: it still uses the NumPy that it started with.").format(text=text)
        return Outcome(state=InstallState.READY, text=text)

    def _try(self, sentence: str, step: Callable[[], None], report: Callable[[str], None]) -> str:
        """Run a step; return the reason if it failed, else ""."""
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
        """Install PyTorch; without the extension, the CPU build, as `describe` announces."""
        if not self._lacks_torch(self.missing()):
            return
        if self._tools.has_pytorch_extension():
            self._tools.install_torch(str(requirement_of(self._torch).specifier))
            return
        index = ["--index-url", CPU_INDEX] if sys.platform == "linux" else []
        pins = self._pins()
        if index:
            # Without dependencies: only PyTorch itself may come from that index.
            self._pip([self._torch], [*index, "--no-deps"], pins)
        self._pip([self._torch], [], pins)

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
        with environment(SAM2_BUILD_CUDA="0"), _file_of([" --hash=".join(sam2_pin())]) as listed:
            self._tools.pip(["--no-deps", "--no-build-isolation", "-r", str(listed)])

    def _pip(self, lines: Sequence[str], options: Sequence[str], pins: Sequence[str]) -> None:
        with _file_of(self._packages.constraints(pins, self._packages.unmet(lines))) as constraints:
            self._tools.pip([*options, *lines, "-c", str(constraints)])

    def _pins(self) -> list[str]:
        """Return the pins of the tested versions."""
        return read_requirements(resource_path("constraints.txt"))


class _file_of:  # noqa: N801
    """A context manager for a temporary text file; the file is closed, because Windows locks open files."""

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
