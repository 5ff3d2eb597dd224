"""The subcommand ``models``: which weights there are, and which are here; gets, checks and publishes them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.progress_bars import ByteProgress, ConsoleProgress
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.checkpoints import check_official, read_checkpoint
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.checking import check_file, recognise
from ProxyPromptSegmentLib.weights.download import Manner
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.publish import publish, release_of_entry, release_of_file
from ProxyPromptSegmentLib.weights.registry import ModelEntry, location
from ProxyPromptSegmentLib.wording import size_text

DESCRIPTION = """\
Models, prompt generators and the official weights of image backbones: lists them, fetches them with
their hash checked, takes them from a stick, and makes the release folder of the project's own.
"""
EXAMPLES = """\
examples:
  proxyprompt models list
  proxyprompt models download sam-vit-b
      shows size and licence, asks, and goes on where an interrupted download stopped
  proxyprompt models import E:/weights
      for a machine without a network: takes the files that it knows by their hash
  proxyprompt models verify
  proxyprompt models publish sam-compact --out release

The weights lie in the folder that 'proxyprompt models path' names; PROXYPROMPT_CACHE names another.
More in Docs/models.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")

    def action(name: str, short: str, *shared: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=short, description=f"{short[:1].upper()}{short[1:]}.")
        sub.add_argument("--json", action="store_true", help="prints the result as JSON and nothing else")
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if "progress" in shared:
            sub.add_argument("--quiet", action="store_true", help="says nothing but warnings and errors")
            sub.add_argument(
                "--progress", action="store_true", default=None, help="shows progress even if stderr is no terminal"
            )
        return sub

    listed = action("list", "list what there is, and what of it is on this machine")
    listed.add_argument("names", nargs="*", metavar="NAME", help="tell everything about these")
    fetched = action("download", "fetch weights; what they need is fetched too", "progress")
    fetched.add_argument("names", nargs="+", metavar="NAME", help="names of 'proxyprompt models list'")
    fetched.add_argument("--yes", action="store_true", help="agrees to sizes and licences beforehand")
    fetched.add_argument(
        "--allow-http", action="store_true", help="also uses addresses without encryption; the hash is checked anyway"
    )
    taken = action("import", "take weights from files or folders, by their hash", "progress")
    taken.add_argument("places", nargs="+", type=Path, metavar="FILE|FOLDER", help="where to look")
    taken.add_argument(
        "--as", dest="name", metavar="NAME", help="whose weights the one file is, where no hash is known beforehand"
    )
    checked = action("verify", "read what is on this machine and compare the hashes", "progress")
    checked.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all that are here)")
    removed = action("remove", "remove downloaded or imported weights, and half-finished downloads")
    removed.add_argument("names", nargs="+", metavar="NAME", help="names of 'proxyprompt models list'")
    told = action("path", "print where weights lie")
    told.add_argument("name", nargs="?", metavar="NAME", help="of these weights (default: the folder of all)")
    made = action("publish", "make the release folder of this project's own models")
    made.add_argument(
        "models", nargs="*", metavar="NAME|FILE",
        help="embedded models, or .safetensors files with card (.md) and words (.json) beside (default: all embedded)",
    )  # fmt: skip
    made.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a folder that does not exist yet")
    made.add_argument("--address", default="", metavar="URL", help="where the folder will be uploaded")


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the subcommand; returns the exit code."""
    if isinstance(console.progress, ConsoleProgress):
        console.progress = ByteProgress(console.err)
    with console.listening():
        try:
            return _ACTIONS[args.action](args, console)
        except KeyboardInterrupt:
            console.status("stopped at once; what was received is kept, and nothing has its name before it is checked.")
            return EXIT_INTERRUPTED


def _list(args: argparse.Namespace, console: Console) -> int:
    cache = ModelCache()
    entries = [registry.find(name) for name in args.names] or registry.all_entries()
    if args.json:
        console.result(_json([_describe(entry, cache) for entry in entries]))
        return EXIT_OK
    for entry in entries:
        size = size_text(entry.bytes) if entry.bytes else "size unknown"
        console.result(f"{entry.name:24}{entry.kind:11}{size:>10}  {_state(entry, cache)}, {entry.licence or '?'}")
        if not args.names:
            continue
        for key, text in _describe(entry, cache).items():
            if key not in ("name", "kind", "installed") and text:
                console.result(f"  {key}: {', '.join(text) if isinstance(text, list | tuple) else text}")
    if not args.names:
        console.result("'proxyprompt models list NAME' tells what it is, its sources and its citation.")
    return EXIT_OK


def _download(args: argparse.Namespace, console: Console) -> int:
    cache = ModelCache()
    wanted = list(_with_needs(registry.find(name) for name in args.names))
    to_fetch = [entry for entry in wanted if not entry.embedded]
    new = [entry for entry in to_fetch if not cache.is_installed(entry)]
    if new:
        _ask(new, cache, args, console)
    done: dict[str, Path] = {entry.name: location(entry) for entry in wanted if entry.embedded}
    with _stopping(console) as cancel:
        for entry in to_fetch:
            path = cache.download(entry, console.progress, cancel, Manner(allow_http=args.allow_http))
            if path is None:
                kept = f"{size_text(cache.kept(entry))} of {size_text(entry.bytes or 0)}"
                console.status(f"stopped; {kept} of {entry.name} are kept; the same command resumes there.")
                return EXIT_INTERRUPTED
            done[entry.name] = path
    for name, path in done.items():
        console.say(f"{name}: {path}")
    if args.json:
        console.result(_json([{"name": name, "path": str(path)} for name, path in done.items()]))
    return EXIT_OK


def _ask(entries: list[ModelEntry], cache: ModelCache, args: argparse.Namespace, console: Console) -> None:
    """Shows sizes and licences, and lets the user decide.

    Raises:
        UsageError: If there is nobody to ask, or the answer is no.
    """
    tell = console.say if args.yes else console.status
    for entry in entries:
        kept = cache.kept(entry)
        rest = f" ({size_text(kept)} of it are here already)" if kept else ""
        tell(f"{entry.name}: {entry.file}, {size_text(entry.bytes or 0)}{rest}, licence {entry.licence or 'unknown'}")
    if args.yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("nothing is downloaded without consent, and nobody can be asked here; add --yes to agree.")
    console.err.write("Download and accept the licences? [y/N] ")
    console.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was downloaded.")


def _import(args: argparse.Namespace, console: Console) -> int:
    cache, entries = ModelCache(), [entry for entry in registry.all_entries() if not entry.embedded]
    chosen = [(_named(args), args.places[0])] if args.name else []
    if not args.name:
        for found in recognise(args.places, entries):
            if found.entry:
                chosen.append((found.entry, found.path))
            else:
                console.warn(f"{found.path} does not match any known weights and is left where it is.")
    if not chosen:
        raise CheckpointError(
            "none of the known weights are there; files are known by their hash, so a damaged or other version is not. "
            "'proxyprompt models list NAME' tells size and hash."
        )
    done = []
    with _stopping(console) as cancel:
        for entry, source in chosen:
            path = cache.take(entry, source, console.progress, cancel)
            if path is None:
                console.status(f"stopped; {entry.name} was not imported.")
                return EXIT_INTERRUPTED
            done.append({"name": entry.name, "path": str(path), "sha256": cache.expected(entry)})
            console.say(f"{entry.name}: {path}, SHA-256 {cache.expected(entry)}")
    if args.json:
        console.result(_json(done))
    return EXIT_OK


def _named(args: argparse.Namespace) -> ModelEntry:
    """The entry that a file is imported as although nobody has told its hash; its tensors are looked at before.

    Raises:
        CheckpointError: If its hash is known, or its tensors are not those that the entry fits.
        UsageError: If it is not one file.
    """
    entry = registry.find(args.name)
    if len(args.places) != 1 or not args.places[0].is_file():
        raise UsageError("--as NAME goes with exactly one file; name it.")
    if entry.sha256:
        raise CheckpointError(f"the right hash of '{entry.name}' is known; import the file without --as.")

    if entry.kind == ModelKind.BACKBONE:
        check_official(args.places[0], entry.fits)
    else:
        read_checkpoint(args.places[0])
    return entry


def _verify(args: argparse.Namespace, console: Console) -> int:
    cache = ModelCache()
    entries = [registry.find(name) for name in args.names]
    entries = entries or [entry for entry in registry.all_entries() if location(entry).is_file()]
    results = []
    for entry in entries:
        path = location(entry)
        if not path.is_file():
            reason: str | None = "it is not on this machine"
        else:
            expected = entry.sha256 if entry.embedded else cache.expected(entry)
            reason = check_file(entry, path, expected and expected.lower(), console.progress)
        results.append({"name": entry.name, "path": str(path), "right": reason is None, "reason": reason})
        console.say(f"{entry.name}: {reason or 'right'}")
    if args.json:
        console.result(_json(results))
    wrong = [str(result["name"]) for result in results if not result["right"]]
    if wrong:
        console.error(f"not right: {', '.join(wrong)}; `proxyprompt models download NAME` fetches it again.")
    return CheckpointError.exit_code if wrong else EXIT_OK


def _remove(args: argparse.Namespace, console: Console) -> int:
    cache, entries, freed = ModelCache(), [registry.find(name) for name in args.names], 0
    if embedded := [entry.name for entry in entries if entry.embedded]:
        raise CheckpointError(f"'{embedded[0]}' comes with the program and is not removed.")
    for entry in entries:
        freed += cache.remove(entry)
    console.say(f"{size_text(freed)} are free again")
    if args.json:
        console.result(_json({"freed_bytes": freed}))
    return EXIT_OK


def _path(args: argparse.Namespace, console: Console) -> int:
    path = location(registry.find(args.name)) if args.name else ModelCache().folder
    if args.name and not path.is_file():
        raise CheckpointError(f"'{args.name}' is not on this machine; `proxyprompt models download {args.name}`.")
    console.result(_json({"path": str(path)}) if args.json else str(path))
    return EXIT_OK


def _publish(args: argparse.Namespace, console: Console) -> int:
    releases = []
    for model in args.models or [entry.name for entry in registry.read_registry()]:
        if model.lower().endswith(".safetensors"):
            releases.append(release_of_file(Path(model)))
        else:
            path, _ = registry.resolve(model)
            card = registry.models_folder() / f"{model}.md"
            releases.append(release_of_entry(registry.find(model), path, card))
    entries = publish(releases, args.out, args.address)
    for entry in entries:
        console.say(f"{entry.name}: {args.out / entry.file}, {size_text(entry.bytes or 0)}, SHA-256 {entry.sha256}")
    if args.json:
        console.result(_json([entry.to_dict() for entry in entries]))
    return EXIT_OK


_ACTIONS = {
    "list": _list,
    "download": _download,
    "import": _import,
    "verify": _verify,
    "remove": _remove,
    "path": _path,
    "publish": _publish,
}


@contextmanager
def _stopping(console: Console) -> Iterator[CancelToken]:
    """The first Ctrl-C stops between two pieces, the second at once; what was received is kept in both cases."""
    said = "stopping; what was received is kept. Press Ctrl-C again to stop at once."
    with stop_on_signals(lambda _: console.status(said)) as cancel:
        yield cancel


def _with_needs(entries: Iterable[ModelEntry]) -> Iterator[ModelEntry]:
    """The entries, each after the base weights that it was trained on, and each once."""
    seen = set()
    for entry in entries:
        for needed in ([registry.find(entry.base)] if entry.base else []) + [entry]:
            if needed.name not in seen:
                seen.add(needed.name)
                yield needed


def _describe(entry: ModelEntry, cache: ModelCache) -> dict[str, Any]:
    here = location(entry).is_file() if entry.embedded else cache.is_installed(entry)
    partial = 0 if entry.embedded else cache.kept(entry)
    return {**dataclasses.asdict(entry), "installed": here, "path": str(location(entry)), "partial_bytes": partial}


def _state(entry: ModelEntry, cache: ModelCache) -> str:
    if entry.embedded:
        return "comes with the program" if location(entry).is_file() else "missing: install the program again"
    if cache.is_installed(entry):
        return "here"
    if kept := cache.kept(entry):
        return f"{size_text(kept)} are here, download goes on"
    return "not here" if entry.sha256 and entry.urls else "not here, only by import"


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
