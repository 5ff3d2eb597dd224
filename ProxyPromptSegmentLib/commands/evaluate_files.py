"""The files of ``evaluate --output``: checked before the work, kept from other programs, written after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ProxyPromptSegmentLib.commands.checks import refuse_existing
from ProxyPromptSegmentLib.errors import OutputError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.imaging.partial_files import alone_in
from ProxyPromptSegmentLib.imaging.paths import same_place


def table_file(out: Path, suffix: str) -> Path:
    """Return the path of a table, ``OUT.json`` or ``OUT.md``."""
    return out.with_name(out.name + suffix)


def refuse_inputs(out: Path | None, suffixes: Iterable[str], inputs: Iterable[Path]) -> None:
    """Reject an output of which a file would take the place of an input, which even ``--force`` must not.

    Args:
        out: The value of ``--output``, if it was given.
        suffixes: Suffixes of the files that are written.
        inputs: Files that are read.

    Raises:
        UsageError: Naming the input.
    """
    read = {same_place(path): path for path in inputs}
    for path in (table_file(out, suffix) for suffix in suffixes) if out is not None else ():
        if place := read.get(same_place(path)):
            raise UsageError(f"--output {out} would replace {place}, which is an input; choose another name.")


def check_tables(out: Path | None, suffixes: tuple[str, ...], force: bool) -> None:
    """Reject tables that cannot be written, before anything is measured.

    Args:
        out: The value of ``--output``, if it was given; its folder is created.
        suffixes: Suffixes of the tables.
        force: Whether existing tables may be replaced.

    Raises:
        OutputError: If one exists, or the folder cannot be written.
    """
    if out is None:
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out.parent} cannot be created: {error.strerror}; choose another --output.") from None
    for suffix in suffixes:
        path = table_file(out, suffix)
        check_output_path(path, (path.suffix,))
        refuse_existing("--output", path, force)


@contextmanager
def measured_alone(out: Path | None, suffixes: tuple[str, ...], force: bool) -> Iterator[Path | None]:
    """Yield the file of scores of ``--output``, OUT.jsonl, which no other program measures into while the block runs.

    Tables beside it, of these suffixes, are replaced where the file exists, because the same measurement then resumes.

    Raises:
        OutputError: If another program holds it, or a table exists that belongs to no such file.
    """
    if out is None:
        yield None
        return
    path = table_file(out, ".jsonl")
    check_tables(out, suffixes, force or path.is_file())
    try:
        path.touch()
        with alone_in(path):
            yield path
    except BlockingIOError:
        raise OutputError(
            f"another program is measuring into {path}; wait for it, or choose another --output."
        ) from None


def write_table(out: Path, suffix: str, text: str, replace: bool) -> None:
    """Write a table, completely or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with safe_output(table_file(out, suffix), replace) as partial:
        partial.write_text(text, encoding="utf-8")
