"""The catalogue of models: what is on this machine, what can be fetched, and the fetching, beside the main thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.checkpoints import check_official, read_checkpoint
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.checking import check_file, recognise
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.registry import ModelEntry
from ProxyPromptSegmentModule.models.rows import ModelRow, known_entries, open_cache, row_of
from ProxyPromptSegmentModule.models.transfers import Transfer, TransferQueue
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.weights.download import Manner

_ORDER = (ModelKind.MODEL, ModelKind.GENERATOR, ModelKind.BACKBONE)


class ModelCatalog:
    """What the registry knows, with what this machine has of it; one transfer at a time, others wait."""

    def __init__(self) -> None:
        """Looks nowhere yet, and starts no thread."""
        self._queue = TransferQueue()

    def rows(self) -> list[ModelRow]:
        """All models: those that can segment first. Reads no weights and imports no torch.

        Raises:
            CheckpointError: If the program's registry is damaged.
        """
        entries, cache = known_entries(), open_cache()
        known = {entry.name: entry for entry in entries}
        ordered = sorted(entries, key=lambda entry: _ORDER.index(ModelKind(entry.kind)))
        return [row_of(entry, known.get(entry.base), cache) for entry in ordered]

    def row(self, name: str) -> ModelRow:
        """One of them.

        Raises:
            CheckpointError: If there is none of this name.
        """
        return next((row for row in self.rows() if row.name == name), None) or _no_such(name)

    def needed(self, name: str) -> list[ModelRow]:
        """What a generator needs beside it; the rows say whether it is here.

        Raises:
            CheckpointError: If there is no model of this name, or the registry lacks what it needs.
        """
        base = self.row(name).base
        return [self.row(base)] if base else []

    def download(self, name: str, manner: Manner | None = None) -> Transfer:
        """Fetches weights, and first those that they need; goes on where an earlier attempt stopped.

        Consent is asked for before, by whoever calls. Asked again for what waits or runs, it gives the same transfer.
        What cannot be downloaded is told by the transfer.

        Args:
            name: Its name.
            manner: A `weights.download.Manner`: time-outs, and whether http is allowed.

        Raises:
            CheckpointError: If there is none of this name.
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
        """Takes weights from a file or a folder of files, known by their hash.

        Args:
            path: Where they lie; they stay there.
            name: Whose weights the file is, where nobody has told a hash beforehand; its tensors are looked at then.

        Raises:
            CheckpointError: If there is no model of this name.
        """
        path, named = Path(path), None if name is None else _entry(name)

        def work(transfer: Transfer) -> bool:
            chosen = [(_checked(named, path), path)] if named else _recognised(path)
            for entry, source in chosen:
                transfer.name = entry.name
                if ModelCache().take(entry, source, transfer.meter, transfer.cancel_token) is None:
                    return False
                transfer.meter.next_file(entry.bytes or source.stat().st_size)
            return True

        return self._queue.add(Transfer(name or "", _("Importing {file}").format(file=path.name), work))

    def verify(self, name: str) -> Transfer:
        """Reads a file again and compares; fails with a sentence where it is missing or damaged.

        Raises:
            CheckpointError: If there is none of this name.
        """
        entry = _entry(name)

        def work(transfer: Transfer) -> bool:
            path = registry.location(entry)
            if not path.is_file():
                raise CheckpointError(_("'{name}' is not on this machine.").format(name=name))
            expected = entry.sha256 if entry.embedded else ModelCache().expected(entry)
            if reason := check_file(entry, path, expected and expected.lower(), transfer.meter):
                remedy = _("Install the program again.") if entry.embedded else _("Remove it and fetch it again.")
                raise CheckpointError(
                    _("'{name}' is not right: {reason}. {remedy}").format(name=name, reason=reason, remedy=remedy)
                )
            return True

        return self._queue.add(Transfer(name, _("Checking {name}").format(name=name), work))

    def remove(self, name: str) -> int:
        """Removes downloaded or imported weights and half-finished downloads; returns the bytes that became free.

        Raises:
            CheckpointError: If it comes with the program, or a transfer of it goes on.
            OutputError: If it cannot be removed.
        """
        entry = _entry(name)
        if entry.embedded:
            raise CheckpointError(_("'{name}' comes with the program and is not removed.").format(name=name))
        going = [one for one in self.transfers if one.name]
        busy = next((one for one in going if name in (one.name, _entry(one.name).base)), None)
        if busy:
            raise CheckpointError(
                _("{label} goes on; cancel it, or wait for its end, before you remove '{name}'.").format(
                    label=busy.label, name=name
                )
            )
        return ModelCache().remove(entry)

    @property
    def transfers(self) -> list[Transfer]:
        """Those that run or wait, in this order."""
        return self._queue.transfers

    def close(self, timeout: float = 5.0) -> bool:
        """Cancels everything and waits until the thread has ended; True if it has.

        A server that is silent keeps the thread up to its time-out (`Manner.timeout`); it ends by itself then.
        """
        return self._queue.close(timeout)


def _entry(name: str) -> ModelEntry:
    return next((entry for entry in known_entries() if entry.name == name), None) or _no_such(name)


def _no_such(name: str) -> NoReturn:
    """Refuses a name.

    Raises:
        CheckpointError: Always.
    """
    known = ", ".join(entry.name for entry in known_entries())
    raise CheckpointError(_("There is no model '{name}'; there are {known}.").format(name=name, known=known))


def _recognised(path: Path) -> list[tuple[ModelEntry, Path]]:
    """The files of the registry that lie there.

    Raises:
        CheckpointError: If there is none.
    """
    entries = [entry for entry in known_entries() if not entry.embedded]
    found = [(one.entry, one.path) for one in recognise([path], entries) if one.entry]
    if not found:
        raise CheckpointError(
            _(
                "{file} holds none of the known weights. They are known by their hash, so a damaged file or another "
                "version is not; if it is the right one, fetch it again."
            ).format(file=path.name)
        )
    return found


def _checked(entry: ModelEntry, path: Path) -> ModelEntry:
    """The entry that a file is imported as; where nobody has told its hash, its tensors are looked at before.

    Raises:
        CheckpointError: If it is no file, belongs to a model of the program, or its tensors are not those of the entry.
    """
    if entry.embedded:
        raise CheckpointError(_("'{name}' comes with the program and is not imported.").format(name=entry.name))
    if not path.is_file():
        raise CheckpointError(
            _("There is no file {path}; choose the file of '{name}'.").format(path=path, name=entry.name)
        )
    if not entry.sha256:
        if entry.kind == ModelKind.BACKBONE:
            check_official(path, entry.fits)
        else:
            read_checkpoint(path)
    return entry
