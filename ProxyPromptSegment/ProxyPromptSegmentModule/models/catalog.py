"""The catalogue of models: those on this machine, those to download, and transfers in a background thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint
from ProxyPromptSegmentLib.networks.official import check_official
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.checking import check_file, recognise
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.own import is_own, says_what_it_is
from ProxyPromptSegmentLib.weights.registry import ModelEntry
from ProxyPromptSegmentModule.models.own_models import OwnModels, remove_own
from ProxyPromptSegmentModule.models.rows import ModelRow, known_entries, open_cache, row_of
from ProxyPromptSegmentModule.models.transfers import Transfer, TransferQueue
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.weights.download import Manner

_ORDER = (ModelKind.MODEL, ModelKind.GENERATOR, ModelKind.BACKBONE)


class ModelCatalog:
    """The models of the registry and their state on this machine; transfers run one at a time."""

    def __init__(self) -> None:
        """Create an empty queue; nothing is read and no thread is started yet."""
        self._queue = TransferQueue()

    def rows(self) -> list[ModelRow]:
        """Return all models, those that can segment first. Reads no weights and imports no torch.

        Raises:
            CheckpointError: If the program's registry is damaged.
        """
        entries, cache = known_entries(), open_cache()
        known = {entry.name: entry for entry in entries}
        entries = [one for one in entries if not one.replaced_by or row_of(one, None, cache).here]
        ordered = sorted(entries, key=lambda entry: _ORDER.index(ModelKind(entry.kind)))
        return [row_of(entry, known.get(entry.base), cache) for entry in ordered]

    def row(self, name: str) -> ModelRow:
        """Return the row of a model.

        Raises:
            CheckpointError: If there is no model of this name.
        """
        return next((row for row in self.rows() if row.name == name), None) or _no_such(name)

    def needed(self, name: str) -> list[ModelRow]:
        """Return the weights that a generator needs in addition; the rows say whether they are on this machine.

        Raises:
            CheckpointError: If there is no model of this name, or the registry lacks the weights that it needs.
        """
        base = self.row(name).base
        return [self.row(base)] if base else []

    def download(self, name: str, manner: Manner | None = None) -> Transfer:
        """Download weights, after those that they need; an interrupted download is resumed.

        The caller asks for consent first. If a transfer of this model is waiting or running, that one is returned. If
        the model cannot be downloaded, the transfer reports it.

        Args:
            name: Name of the model.
            manner: A `weights.download.Manner`: time-outs, and whether http is allowed.

        Raises:
            CheckpointError: If there is no model of this name.
        """
        label = _("Downloading {name}").format(name=name)
        going = next((one for one in self.transfers if (one.name, one.label) == (name, label)), None)
        if going:
            return going
        entry = _entry(name)
        wanted = [one for one in ([_entry(entry.base)] if entry.base else []) + [entry] if not one.embedded]

        def work(transfer: Transfer) -> bool:
            for one in wanted:
                if ModelCache().download(one, transfer.meter, transfer.cancel_token, manner) is None:
                    return False
                transfer.meter.next_file(one.bytes or 0)
            return True

        return self._queue.add(Transfer(name, label, work, sum(one.bytes or 0 for one in wanted)))

    def import_file(self, path: Path | str, name: str | None = None) -> Transfer:
        """Import weights from a file or a folder of files, recognised by their hash, or a model of the user's own.

        Args:
            path: The file or folder; it is copied, not moved.
            name: Model to import the file as, if its hash is not known in advance; its tensors are checked instead.

        Raises:
            CheckpointError: If there is no model of this name.
        """
        path, named = Path(path), None if name is None else _entry(name)

        def work(transfer: Transfer) -> bool:
            if named is None and says_what_it_is(path):
                transfer.name = OwnModels().take(path).name
                return True
            chosen = [(_checked(named, path), path)] if named else _recognised(path)
            for entry, source in chosen:
                transfer.name = entry.name
                if ModelCache().take(entry, source, transfer.meter, transfer.cancel_token) is None:
                    return False
                transfer.meter.next_file(entry.bytes or source.stat().st_size)
            return True

        return self._queue.add(Transfer(name or "", _("Importing {file}").format(file=path.name), work))

    def verify(self, name: str) -> Transfer:
        """Verify the hash of a model's file; the transfer fails if the file is missing or damaged.

        Raises:
            CheckpointError: If there is no model of this name.
        """
        entry = _entry(name)

        def work(transfer: Transfer) -> bool:
            path = registry.location(entry)
            if not path.is_file():
                raise CheckpointError(_("'{name}' is not on this machine.").format(name=name))
            expected = entry.sha256 if entry.embedded else ModelCache().expected(entry)
            if reason := check_file(entry, path, expected and expected.lower(), transfer.meter):
                remedy = _("Install the program again.") if entry.embedded else _("Remove it and download it again.")
                raise CheckpointError(
                    _("The file of '{name}' is not valid: {reason}. {remedy}").format(
                        name=name, reason=reason, remedy=remedy
                    )
                )
            return True

        return self._queue.add(Transfer(name, _("Checking {name}").format(name=name), work))

    def remove(self, name: str) -> int:
        """Remove downloaded or imported weights and partial downloads; return the number of bytes freed.

        Raises:
            CheckpointError: If it comes with the program, or a transfer of it is in progress.
            OutputError: If it cannot be removed.
        """
        entry = _entry(name)
        if entry.embedded:
            raise CheckpointError(_("'{name}' comes with the program and is not removed.").format(name=name))
        going = [one for one in self.transfers if one.name]
        busy = next((one for one in going if name in (one.name, _entry(one.name).base)), None)
        if busy:
            raise CheckpointError(
                _("{label} is in progress; cancel it or wait until it ends before you remove '{name}'.").format(
                    label=busy.label, name=name
                )
            )
        return remove_own(entry) if is_own(entry) else ModelCache().remove(entry)

    @property
    def transfers(self) -> list[Transfer]:
        """The running transfer and those that wait, in this order."""
        return self._queue.transfers

    def close(self, timeout: float = 5.0) -> bool:
        """Cancel all transfers and wait for the thread; return whether it has ended.

        While a server does not answer, the thread lives until the time-out (`Manner.timeout`).
        """
        return self._queue.close(timeout)


def _entry(name: str) -> ModelEntry:
    return next((entry for entry in known_entries() if entry.name == name), None) or _no_such(name)


def _no_such(name: str) -> NoReturn:
    """Raise the error for an unknown name.

    Raises:
        CheckpointError: Always.
    """
    known = ", ".join(entry.name for entry in known_entries())
    raise CheckpointError(_("There is no model '{name}'; choose one of {known}.").format(name=name, known=known))


def _recognised(path: Path) -> list[tuple[ModelEntry, Path]]:
    """Return the registry entries whose files are found in a path.

    Raises:
        CheckpointError: If there are none.
    """
    entries = [entry for entry in known_entries() if not entry.embedded]
    found = [(one.entry, one.path) for one in recognise([path], entries) if one.entry]
    if not found:
        raise CheckpointError(
            _(
                "{file} contains none of the known weights. Weights are recognised by their hash, so a damaged file or "
                "another version is not recognised; fetch the file again."
            ).format(file=path.name)
        )
    return found


def _checked(entry: ModelEntry, path: Path) -> ModelEntry:
    """Check that a file can be imported as an entry; without a known hash, its tensors are checked.

    Raises:
        CheckpointError: If the file does not exist, the model comes with the program, or the tensors do not match.
    """
    if entry.embedded:
        raise CheckpointError(_("'{name}' comes with the program and is not imported.").format(name=entry.name))
    if not path.is_file():
        raise CheckpointError(
            _("The file {path} does not exist; choose the file of '{name}'.").format(path=path, name=entry.name)
        )
    if not entry.sha256:
        if entry.kind == ModelKind.BACKBONE:
            check_official(path, entry.fits)
        else:
            read_checkpoint(path)
    return entry
