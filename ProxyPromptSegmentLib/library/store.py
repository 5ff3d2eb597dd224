"""The user's library of annotated cases: one folder per case, without anything that identifies the patient.

A case is saved once, image and masks as acquired, and can support every later target::

    LIBRARY/ID/case.json         description, see `library.entry.LibraryEntry`
               image.nrrd        intensities as acquired, at native spacing
               masks.seg.nrrd    segments with names, colours and terminology
               thumbnail.png
               embedding-*.npz   image embedding of the case (see `review.suggest`); may be removed at any time
    LIBRARY/.patients            secret of the tokens of patients, see `library.patients`
    LIBRARY/.lock                lock file, so that only one program writes at a time
    LIBRARY/.partial-*           cases being written, moved into place at the end
"""

from __future__ import annotations

import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import InputError, OutputError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.imaging.partial_files import held, remove_abandoned
from ProxyPromptSegmentLib.library.entry import (
    CASE_FILE,
    LibraryEntry,
    clean_line,
    is_case_folder,
    is_own_file,
    natural_order,
    read_entry,
    to_json,
)
from ProxyPromptSegmentLib.library.patients import make_secret, token_of
from ProxyPromptSegmentLib.user_folders import LIBRARY_VARIABLE, install_folders, library_folder

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.imaging.volumes import Volume
    from ProxyPromptSegmentLib.support.case import SupportCase

__all__ = ["LIBRARY_VARIABLE", "SupportLibrary", "library_folder"]

_LOCK_SECONDS = 60.0
_SPACING = 1e-4  # relative, within which a file keeps it
_PARTIAL = f".partial-{'[0-9a-f]' * 12}"


class SupportLibrary:
    """A folder of annotated cases, which several programs may use at the same time.

    Attributes:
        folder: The library's folder, which may not exist yet.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Use ``folder``, or by default `library_folder`; it is created when the first case is saved.

        Raises:
            UsageError: If the folder is inside the program's or Python's installation, or is a file.
        """
        self.folder = Path(folder).expanduser().absolute() if folder is not None else library_folder()
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"The support library {self.folder} is a file; choose a folder.")
        for root in install_folders():
            if self.folder.resolve().is_relative_to(root):
                raise UsageError(
                    f"The support library {self.folder} would lie inside of the installation {root}, where an update "
                    f"removes it and other users see it; choose a folder of your own (or set {LIBRARY_VARIABLE})."
                )

    def entries(self) -> list[LibraryEntry]:
        """Return all cases, oldest first, without reading images; a damaged case has a ``problem``. Never raises.

        What a program that was killed left of a case, an image of a patient, is removed.
        """
        remove_abandoned(self.folder, _PARTIAL)
        try:
            folders = [path for path in self.folder.iterdir() if is_case_folder(path)]
        except FileNotFoundError:
            return []
        except OSError as error:
            problem = f"The support library {self.folder} cannot be read ({error.strerror}); change its permissions."
            return [LibraryEntry("", self.folder, title=self.folder.name, problem=problem)]
        return sorted(map(read_entry, folders), key=lambda e: (e.saved, natural_order(e.title), e.id))

    def save(
        self,
        volume: Volume,
        segmentation: Segmentation,
        title: str = "",
        annotator: str = "",
        modality: str = "",
        notes: str = "",
        slices: Sequence[int] | None = None,
        objects: Sequence[str] | None = None,
        identifying: dict[str, str] | None = None,
        thumbnail: bool = True,
        patient: str = "",
        identity: str = "",
    ) -> LibraryEntry:
        """Save a case, completely or not at all.

        The volume's name and source and the segments' identifiers, tags and status are not saved. Text burned into
        the image remains.

        Args:
            volume: The image.
            segmentation: Its annotation, on the same grid.
            title: The title; "Case N" by default.
            annotator: Name of the annotator.
            modality: For example "MR T2".
            notes: Free text.
            slices: Slices that will prompt, along the axis of the annotation; by default chosen at use.
            objects: Names of the segments to save; by default all that are not empty.
            identifying: Identifying data to keep; by default none.
            thumbnail: Whether to make a thumbnail.
            patient: Token of its patient, as an imported case has it; "" for a patient of its own.
            identity: What identifies its patient, of which only a token is stored; "" if nothing is known.

        Returns:
            The new entry; or, with ``already_there`` set, an existing one with the same voxels and masks, which is
            given the token if it had none.

        Raises:
            SupportError: If nothing is annotated, sizes differ, or an object or slice does not exist.
            GeometryError: If the segmentation lies on another grid.
            InputError: If the image has NaN, infinite or constant intensity, or fractional colour values.
            OutputError: If the folder cannot be written or the disk is full; no partial case is left.
        """
        from ProxyPromptSegmentLib.library.files import describe, write_files

        entry, kept = describe(volume, segmentation, slices, objects)
        patient = patient or self._made_token(identity)
        entry = replace(
            entry,
            title=clean_line(title),
            annotator=clean_line(annotator),
            modality=clean_line(modality),
            notes=str(notes),
            identifying={str(key): str(value) for key, value in (identifying or {}).items()},
            patient=patient,
            saved=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        if known := self._same(entry):  # before anything is written
            return self._with_patient(known, patient)
        with self.partial_folder() as partial:
            write_files(partial, volume, kept, entry, thumbnail)
            return self._install(partial, entry)

    def load(self, entry: LibraryEntry) -> SupportCase:
        """Read a case as a support.

        The volume is named after the title. For a picture its source is the thumbnail's path, from which
        `matching.has_place` knows that its spacing is meaningless.

        Raises:
            InputError: If it is damaged, or its voxels or masks differ from what was saved.
        """
        from ProxyPromptSegmentLib.library.files import load_files

        current = read_entry(self._folder_of(entry))
        if current.problem:
            raise InputError(current.problem)
        return load_files(current)

    def rename(self, entry: LibraryEntry, title: str) -> LibraryEntry:
        """Change the title of a case.

        Raises:
            UsageError: If the title is empty.
            InputError: If the case no longer exists or is damaged.
            OutputError: If it cannot be written.
        """
        name = clean_line(title)
        if not name:
            raise UsageError("The title of a case cannot be empty; give it a name.")
        self._folder_of(entry)
        with self._locked():
            current = read_entry(self._folder_of(entry))
            if current.problem:
                raise InputError(current.problem)
            renamed = replace(current, title=name)
            _write_entry(renamed)
        return renamed

    def token_of(self, identity: str) -> str:
        """Return the token of a patient, by which cases of this library are known to be of one; "" if there is none.

        Args:
            identity: What identifies the patient; it is not stored.
        """
        return token_of(self.folder, identity)

    def remove(self, entry: LibraryEntry) -> None:
        """Delete a case's folder permanently, even if the case is damaged.

        Raises:
            InputError: If the entry is not a case of this library.
            OutputError: If the folder contains files that the library did not make (it is then left unchanged), or
                cannot be removed.
        """
        self._folder_of(entry)
        with self._locked():
            folder = self._folder_of(entry)
            foreign = sorted(path.name for path in folder.iterdir() if not is_own_file(path))
            if foreign:
                raise OutputError(
                    f"{folder} contains files that the library did not make "
                    f"({', '.join(foreign[:3])}{' and more' if len(foreign) > 3 else ''}); it was left as it is. Move "
                    "that elsewhere first."
                )
            hidden = self.folder / f".removed-{uuid.uuid4().hex[:12]}"
            os.replace(folder, hidden)  # from here on it is no longer a case, whatever happens
            shutil.rmtree(hidden, ignore_errors=True)

    def thumbnail_path(self, entry: LibraryEntry) -> Path | None:
        """Return the path of a case's thumbnail; None if it has none."""
        return entry.thumbnail if entry.id and entry.thumbnail.is_file() else None

    @contextmanager
    def partial_folder(self) -> Iterator[Path]:
        """Yield a new hidden folder next to the cases, removed at the end unless it was moved into place.

        Raises:
            OutputError: If it cannot be created, or the block cannot write.
        """
        partial = self.folder / f".partial-{uuid.uuid4().hex[:12]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with held(partial, folder=True):
                yield partial
        except OSError as error:
            raise OutputError(self._writing_failed(error)) from None
        except OutputError as error:
            if str(partial) not in str(error):
                raise
            reason = str(error).replace(f"{partial}{os.sep}", "")
            raise OutputError(f"The case was not saved in the support library {self.folder}: {reason}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _same(self, entry: LibraryEntry) -> LibraryEntry | None:
        """Return an existing case with the same voxels and masks in the same place."""
        for other in self.entries():
            if not other.problem and _are_same(entry, other):
                return replace(other, already_there=True)
        return None

    def _made_token(self, identity: str) -> str:
        """Return the token of a patient, after the secret of this library was made if it had none."""
        if identity:
            with self.partial_folder(), self._locked():  # the first creates the library's folder
                make_secret(self.folder)
        return self.token_of(identity)

    def _with_patient(self, known: LibraryEntry, patient: str) -> LibraryEntry:
        """Give a case that was there before the token of its patient, if it had none."""
        if not patient or known.patient:
            return known
        with self._locked():
            current = read_entry(known.folder)  # another program may just have renamed or removed it
            if current.problem or current.patient:
                return known
            _write_entry(replace(current, patient=patient))
        return replace(current, patient=patient, already_there=True)

    def _install(self, partial: Path, entry: LibraryEntry) -> LibraryEntry:
        """Name a written case and move it into place, unless another program has saved the same one meanwhile."""
        with self._locked():
            self._sweep(partial)
            if known := self._same(entry):
                return known
            name = uuid.uuid4().hex[:12]
            entry = replace(entry, id=name, folder=self.folder / name, title=entry.title or self._next_title())
            path = partial / CASE_FILE
            path.write_text(to_json(entry), encoding="utf-8")
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, entry.folder)
        return entry

    def _next_title(self) -> str:
        """Return "Case N" with N above all existing ones."""
        found = [re.fullmatch(r"Case ([0-9]{1,6})", entry.title) for entry in self.entries()]
        return f"Case {1 + max((int(match[1]) for match in found if match), default=0)}"

    def _folder_of(self, entry: LibraryEntry) -> Path:
        """Return the folder of a case of this library.

        Raises:
            InputError: If it does not exist.
        """
        path = self.folder / entry.id
        if Path(entry.id).name != entry.id or entry.folder != path or not is_case_folder(path):
            raise InputError(
                f"'{entry.title or entry.id}' is not, or no longer, a case of the support library {self.folder}; list "
                "the cases again."
            )
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the library's lock, waiting until no other program writes to it.

        Raises:
            OutputError: If the library cannot be written, or another program holds the lock too long.
        """
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.folder / ".lock", timeout=_LOCK_SECONDS):
                with suppress(OSError):  # whoever may write to the folder may write to the library
                    (self.folder / ".lock").chmod(self.folder.stat().st_mode & 0o666 | 0o600)
                yield
        except Timeout:
            raise OutputError(
                f"Another program has been writing to the support library {self.folder} for {_LOCK_SECONDS:.0f} s; "
                "try again when it has finished."
            ) from None
        except OSError as error:
            raise OutputError(self._writing_failed(error)) from None

    def _sweep(self, own: Path) -> None:
        """Remove the leftovers of programs that were killed; ``own`` is new and tells the time of the file server."""
        for path in self.folder.glob(".removed-*"):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            remove_abandoned(self.folder, _PARTIAL, own.stat().st_mtime)

    def _writing_failed(self, error: OSError) -> str:
        free = ""
        with suppress(OSError):
            left = shutil.disk_usage(self.folder).free
            free = f" {left / 2**20:.0f} MiB are free there." if left < 2**30 else ""
        return (
            f"The support library {self.folder} could not be written: {error.strerror or error}.{free} Nothing "
            f"half-written was left; change its permissions, free space, or set {LIBRARY_VARIABLE} to another folder."
        )


def _are_same(one: LibraryEntry, other: LibraryEntry) -> bool:
    """Return whether two cases are one: an image whose spacing or plane was corrected is another."""
    alike = all(math.isclose(a, b, rel_tol=_SPACING) for a, b in zip(one.spacing_mm, other.spacing_mm, strict=True))
    hashes = (one.voxels_sha256, one.masks_sha256) == (other.voxels_sha256, other.masks_sha256)
    return hashes and alike and (one.axis, one.plane) == (other.axis, other.plane)


def _write_entry(entry: LibraryEntry) -> None:
    """Write the description of a case that is there.

    Raises:
        OutputError: If it cannot be written.
    """
    with safe_output(entry.folder / CASE_FILE) as partial:
        partial.write_text(to_json(entry), encoding="utf-8")
