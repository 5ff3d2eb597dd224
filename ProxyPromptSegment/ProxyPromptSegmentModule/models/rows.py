"""Rows of the model table: whether a model can segment now, and otherwise what is missing."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.availability import newer_torch_for, torch_version
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.catalogue import read_entries
from ProxyPromptSegmentLib.weights.classes import Prompting, prompting_of
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.registry import ModelEntry
from ProxyPromptSegmentLib.weights.vocabulary import IMAGE, PROXY
from ProxyPromptSegmentLib.wording import size_text
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

# Prefix of all SAM 2 backbones; the full list is in a module that imports torch.
_WITH_MEMORY = "sam2"


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model or a weights file, as the table shows it.

    Attributes:
        name: Its name in the registry.
        kind: ``model``, ``generator`` (needs ``base`` in addition) or ``backbone`` (cannot segment alone).
        state: In words: "with the program", "installed", "can be downloaded", "to be imported", "needs the package
            ...", or what is missing.
        bytes: Size of the file; None if unknown.
        licence: Licence of the weights.
        description: Description in one sentence.
        trained_on: Data that it was trained on.
        usable: Whether it can segment now.
        follows: Whether it has a memory (SAM 2), with which it follows objects through frames and slices.
        reason: Why it cannot be used now, and what to do; "" if it can.
        here: Whether its file is on this machine.
        can_download: Whether `ModelCatalog.download` would fetch it.
        can_remove: Whether `ModelCatalog.remove` would free something.
        kept: Bytes of an interrupted download, which the next one resumes.
        base: Name of the weights that a generator needs; "" for none.
        package: Python package that it needs; "" for none.
        citation: What to cite.
        prompts: Kind of its prompt generator, see `vocabulary.generator_kind`; "" if it is not known.
        classes: The classes that it knows by name.
    """

    name: str
    kind: ModelKind
    state: str
    bytes: int | None
    licence: str
    description: str
    trained_on: str
    usable: bool
    follows: bool
    reason: str = ""
    here: bool = False
    can_download: bool = False
    can_remove: bool = False
    kept: int = 0
    base: str = ""
    package: str = ""
    citation: str = ""
    prompts: str = ""
    classes: tuple[PromptClass, ...] = ()

    def answers(self, prompt_by: PromptBy) -> bool:
        """Return whether it can be prompted like this; one that is not on this machine is taken to read supports."""
        if prompt_by == PromptBy.STRUCTURE:
            return self.prompts == IMAGE
        if prompt_by == PromptBy.CLASS:
            return bool(self.classes) and self.prompts != IMAGE
        return self.prompts in ("", PROXY)

    def knows(self, name: str) -> bool:
        """Return whether a text is the name, a synonym or the code of one of its classes."""
        return any(one.is_called(name) for one in self.classes)


def known_entries() -> list[ModelEntry]:
    """Return the registry; without the user's own entries if the package that locates them is not installed.

    Raises:
        CheckpointError: If the program's registry is damaged.
    """
    try:
        return registry.all_entries()
    except ImportError:
        return read_entries(registry.models_folder() / "registry.json")


def open_cache() -> ModelCache | None:
    """Return the cache of weights; None if the package that locates its folder is not installed."""
    try:
        return ModelCache()
    except ImportError:
        return None


def is_installed(package: str) -> bool:
    """Return whether a package could be imported, without importing it."""
    try:
        spec = importlib.util.find_spec(package.replace("-", "_"))
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a folder that is not a package has no origin


def row_of(entry: ModelEntry, base: ModelEntry | None, cache: ModelCache | None) -> ModelRow:
    """Build the row of an entry.

    Args:
        entry: The entry.
        base: The weights that it needs in addition; None if it needs none or the registry lacks them.
        cache: The cache, see `open_cache`.
    """
    here, kept = _is_here(entry, cache), 0 if entry.embedded or cache is None else cache.kept(entry)
    fetchable = bool(entry.sha256 and entry.bytes and entry.urls) and not entry.embedded
    package = entry.package or (base.package if base else "")
    lacking = [name for name in ("torch", package) if name and not is_installed(name)]
    state, reason = _place(entry, here, fetchable)
    if not reason and entry.base and not (base and _is_here(base, cache)):
        state = _("needs the weights {name}").format(name=entry.base)
        reason = _(
            "The weights '{name}' that it was trained on are not on this machine; download or import them."
        ).format(name=entry.base)
    if (needed := newer_torch_for(package)) and not reason:
        state = _("needs PyTorch {version}").format(version=needed)
        reason = _("It is not available here: it needs PyTorch {version} or newer, and this is {installed}.").format(
            version=needed, installed=torch_version()
        )
    if lacking and not reason:
        state = _("needs the package {name}").format(name=lacking[0])
        reason = _(
            "It needs the Python package {name}, which is not installed; install what the program needs."
        ).format(name=_(" and ").join(lacking))
    if entry.kind == ModelKind.BACKBONE:
        reason = _(
            "These are the weights of an image backbone only; to segment, choose a prompt generator that was trained "
            "on them."
        )
    prompting = prompting_of(entry) if here else Prompting()
    return ModelRow(
        name=entry.name,
        kind=ModelKind(entry.kind),
        state=state,
        bytes=entry.bytes,
        licence=entry.licence,
        description=entry.description,
        trained_on=entry.trained_on,
        usable=not reason,
        follows=entry.fits.startswith(_WITH_MEMORY),
        reason=reason,
        here=here,
        can_download=fetchable and not here,
        can_remove=not entry.embedded and (here or kept > 0),
        kept=kept,
        base=entry.base,
        package=package,
        citation=entry.citation,
        prompts=prompting.kind,
        classes=prompting.classes,
    )


def _is_here(entry: ModelEntry, cache: ModelCache | None) -> bool:
    if entry.embedded:
        return registry.checkpoint_of(entry).is_file()
    return cache is not None and cache.is_installed(entry)


def _place(entry: ModelEntry, here: bool, fetchable: bool) -> tuple[str, str]:
    """Return where the file is, in a few words, and why the model cannot be used therefore, or ""."""
    if entry.embedded:
        missing = _("Its file is missing; install the program again.")
        return (_("with the program"), "") if here else (_("missing"), missing)
    if here:
        return _("installed"), ""
    if fetchable:
        size = size_text(entry.bytes or 0)
        return _("can be downloaded"), _("It is not on this machine; download it ({size}).").format(size=size)
    return _("to be imported"), _("It is not on this machine and cannot be downloaded; import its file.")
