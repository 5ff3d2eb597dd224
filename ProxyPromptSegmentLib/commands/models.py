"""The subcommand ``models``: list, download, import, verify, remove and publish weights."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.checks import refuse_existing
from ProxyPromptSegmentLib.commands.common_options import add_action
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, CheckpointError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path
from ProxyPromptSegmentLib.networks.checkpoints import check_fits
from ProxyPromptSegmentLib.networks.official import check_official
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.availability import newer_torch_for
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.checking import check_file, recognise
from ProxyPromptSegmentLib.weights.classes import classes_of
from ProxyPromptSegmentLib.weights.download import Manner
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.own import card_of, export, forget, is_own, register, says_what_it_is
from ProxyPromptSegmentLib.weights.publish import publish, release_of_entry, release_of_file
from ProxyPromptSegmentLib.weights.registry import ModelEntry, location
from ProxyPromptSegmentLib.weights.revising import built_on
from ProxyPromptSegmentLib.wording import size_text

DESCRIPTION = """\
Manage models, prompt generators and the official weights of backbones: list them, download them with
their hashes verified, import them from a USB stick or folder, and build the release folder for this
project's own models.
"""
EXAMPLES = """\
examples:
  proxyprompt models list
  proxyprompt models download sam-vit-b
      show size and licence, ask for consent, and download; an interrupted download is resumed
  proxyprompt models import E:/weights
      on a machine without a network: import the files that are recognised by their hash
  proxyprompt models export my-prostate --output my-prostate.safetensors
      one file with its card; on another machine: proxyprompt models import my-prostate.safetensors
  proxyprompt models verify
  proxyprompt models publish sam-compact --output release

The weights are stored in the folder that 'proxyprompt models path' prints; set PROXYPROMPT_CACHE to use
another one. See Docs/models.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    action = partial(add_action, actions)
    listed = action("list", "list all known weights and show which are installed")
    listed.add_argument(
        "names", nargs="*", metavar="NAME", help="show full details of these entries (default: a list of all)"
    )
    fetched = action("download", "download weights, and the base weights that they need")
    fetched.add_argument("names", nargs="+", metavar="NAME", help="names of 'proxyprompt models list'")
    fetched.add_argument("--yes", action="store_true", help="accept sizes and licences without being asked")
    fetched.add_argument(
        "--allow-http", action="store_true", help="also use addresses without encryption; the hash is verified anyway"
    )
    taken = action("import", "import weights from files or folders, recognised by their hash")
    taken.add_argument("places", nargs="+", type=Path, metavar="FILE|FOLDER", help="files, or folders to search")
    taken.add_argument(
        "--as", dest="name", metavar="NAME",
        help="registry entry to import the file as, if its hash is not known; or a new name for an adapted model",
    )  # fmt: skip
    given = action("export", "copy a model to one file, from which it can be imported elsewhere")
    given.add_argument("name", metavar="NAME", help="name of 'proxyprompt models list'")
    given.add_argument("--output", dest="out", required=True, type=Path, metavar="FILE", help="new .safetensors file")
    given.add_argument("--force", action="store_true", help="replace a file of this name")
    checked = action("verify", "verify the hashes of installed weights")
    checked.add_argument("names", nargs="*", metavar="NAME", help="entries to verify (default: all installed)")
    removed = action("remove", "remove downloaded or imported weights and partial downloads")
    removed.add_argument("names", nargs="+", metavar="NAME", help="names of 'proxyprompt models list'")
    told = action("path", "print where weights are stored")
    told.add_argument("name", nargs="?", metavar="NAME", help="registry entry (default: the folder of all weights)")
    made = action("publish", "build the release folder for this project's own models")
    made.add_argument(
        "models", nargs="*", metavar="NAME|FILE",
        help="embedded model, or .safetensors file next to its card (.md) and words (.json) (default: all embedded)",
    )  # fmt: skip
    made.add_argument("--output", dest="out", required=True, type=Path, metavar="FOLDER", help="new folder to create")
    made.add_argument("--address", default="", metavar="URL", help="address to which the folder will be uploaded")


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    with console.listening():
        try:
            return _ACTIONS[args.action](args, console)
        except KeyboardInterrupt:
            console.status("stopped immediately; what was received is kept, and only a verified file gets its name.")
            return EXIT_INTERRUPTED


def _list(args: argparse.Namespace, console: Console) -> int:
    cache = ModelCache()
    entries = [registry.find(name) for name in args.names] or registry.all_entries()
    if args.json:
        console.result(_json([_describe(entry, cache) for entry in entries]))
        return EXIT_OK
    for entry in entries:
        size = size_text(entry.bytes) if entry.bytes else "size unknown"
        known = classes_of(entry)
        knows = f", knows {len(known)} class{'es' if len(known) > 1 else ''}" if known else ""
        console.result(
            f"{entry.name:24}{entry.kind:11}{size:>10}  {_state(entry, cache)}, {entry.licence or '?'}{knows}"
        )
        if not args.names:
            continue
        if known:
            coded = [one.name + (f" ({one.scheme} {one.code})" if one.code else "") for one in known]
            console.result(f"  classes: {', '.join(coded)}")
        for key, text in _describe(entry, cache).items():
            if key not in ("name", "kind", "installed", "classes") and text:
                console.result(f"  {key}: {', '.join(text) if isinstance(text, list | tuple) else text}")
    if not args.names:
        console.result("'proxyprompt models list NAME' shows description, classes, sources and citation of an entry.")
    return EXIT_OK


def _download(args: argparse.Namespace, console: Console) -> int:
    cache = ModelCache()
    wanted = list(_with_needs(registry.find(name) for name in args.names))
    # What was imported for an entry without a known hash is complete, though it cannot be downloaded.
    imported = [entry for entry in wanted if not entry.embedded and not entry.sha256 and cache.is_installed(entry)]
    to_fetch = [entry for entry in wanted if not entry.embedded and entry not in imported]
    new = [entry for entry in to_fetch if not cache.is_installed(entry)]
    if new:
        _ask(new, cache, args, console)
    done: dict[str, Path] = {entry.name: location(entry) for entry in wanted if entry not in to_fetch}
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
    """Show sizes and licences, and ask the user for consent.

    Raises:
        UsageError: If stdin is not a terminal, or the user declines.
    """
    tell = console.say if args.yes else console.status
    for entry in entries:
        kept = cache.kept(entry)
        rest = f" ({size_text(kept)} already received)" if kept else ""
        tell(f"{entry.name}: {entry.file}, {size_text(entry.bytes or 0)}{rest}, licence {entry.licence or 'unknown'}")
    if args.yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("nothing is downloaded without consent, and stdin is not a terminal; add --yes to agree.")
    console.err.write("Download and accept the licences? [y/N] ")
    console.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was downloaded.")


def _import(args: argparse.Namespace, console: Console) -> int:
    cache, entries = ModelCache(), [entry for entry in registry.all_entries() if not entry.embedded]
    adapted: list[Path] = []
    if args.name and len(args.places) == 1 and says_what_it_is(args.places[0]):
        adapted = [args.places[0]]
    chosen = [(_named(args), args.places[0])] if args.name and not adapted else []
    if not args.name:
        for found in recognise(args.places, entries):
            if found.entry:
                chosen.append((found.entry, found.path))
            elif says_what_it_is(found.path):
                adapted.append(found.path)
            elif not os.access(found.path, os.R_OK):
                console.warn(f"{found.path} may not be read by this user and is skipped; change its permissions.")
            else:
                console.warn(f"{found.path} does not match any known weights and is skipped.")
    if not chosen and not adapted:
        raise CheckpointError(
            "none of the known weights were found; files are recognised by their hash, so a damaged file or another "
            "version is not. 'proxyprompt models list NAME' shows size and hash."
        )
    done = []
    for source in adapted:
        check_fits(source)
        entry = register(source, args.name or "")
        done.append({"name": entry.name, "path": str(location(entry)), "sha256": entry.sha256})
        console.say(f"{entry.name}: {location(entry)}, SHA-256 {entry.sha256}")
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
    """Return the entry without a known hash that a file is imported as, after checking the file's tensors.

    Raises:
        CheckpointError: If the entry has a known hash, or the tensors do not fit it.
        UsageError: If not exactly one file was given.
    """
    entry = registry.find(args.name)
    if len(args.places) != 1 or not args.places[0].is_file():
        raise UsageError("--as NAME needs exactly one FILE.")
    if entry.sha256:
        raise CheckpointError(f"the hash of '{entry.name}' is known; import the file without --as.")

    if entry.kind == ModelKind.BACKBONE:
        check_official(args.places[0], entry.fits)
    else:
        check_fits(args.places[0])
    return entry


def _export(args: argparse.Namespace, console: Console) -> int:
    entry = registry.find(args.name)
    check_output_path(args.out, (".safetensors",))
    refuse_existing("--output", args.out, args.force)
    export(entry, args.out, replace=args.force)
    console.say(f"{entry.name}: {args.out}, {size_text(args.out.stat().st_size)}, SHA-256 {entry.sha256}")
    if entry.base:
        console.say(f"It is completed by '{entry.base}', which the other machine needs too.")
    if args.json:
        console.result(_json({"name": entry.name, "path": str(args.out), "sha256": entry.sha256}))
    return EXIT_OK


def _verify(args: argparse.Namespace, console: Console) -> int:
    cache = ModelCache()
    entries = [registry.find(name) for name in args.names]
    entries = entries or [entry for entry in registry.all_entries() if location(entry).is_file()]
    results = []
    for entry in entries:
        path = location(entry)
        if not path.is_file():
            reason: str | None = "not installed"
        else:
            expected = entry.sha256 if entry.embedded else cache.expected(entry)
            reason = check_file(entry, path, expected and expected.lower(), console.progress)
            if reason is None and not expected:
                reason = "no hash of it is known; import its file, which is remembered by its hash from then on"
        results.append({"name": entry.name, "path": str(path), "right": reason is None, "reason": reason})
        console.say(f"{entry.name}: {reason or 'verified'}")
    if args.json:
        console.result(_json(results))
    wrong = [str(result["name"]) for result in results if not result["right"]]
    if wrong:
        console.error(
            f"verification failed: {', '.join(wrong)}; `proxyprompt models download NAME` downloads it again."
        )
    return CheckpointError.exit_code if wrong else EXIT_OK


def _remove(args: argparse.Namespace, console: Console) -> int:
    cache, entries, freed = ModelCache(), [registry.find(name) for name in args.names], 0
    if embedded := [entry.name for entry in entries if entry.embedded]:
        raise CheckpointError(f"'{embedded[0]}' comes with the program and cannot be removed.")
    removed = {entry.name for entry in entries}
    for entry in filter(is_own, entries):
        if left := [name for name in built_on(entry) if name not in removed]:
            raise CheckpointError(
                f"'{entry.name}' completes {', '.join(left)}, which cannot be used without it; remove those as well."
            )
    for entry in entries:
        freed += cache.remove(entry)
        forget(entry)
    console.say(f"{size_text(freed)} freed")
    if args.json:
        console.result(_json({"freed_bytes": freed}))
    return EXIT_OK


def _path(args: argparse.Namespace, console: Console) -> int:
    path = location(registry.find(args.name)) if args.name else ModelCache().folder
    if args.name and not path.is_file():
        raise CheckpointError(f"'{args.name}' is not installed; run `proxyprompt models download {args.name}`.")
    console.result(_json({"path": str(path)}) if args.json else str(path))
    return EXIT_OK


def _publish(args: argparse.Namespace, console: Console) -> int:
    releases = []
    for model in args.models or [entry.name for entry in registry.read_registry()]:
        if model.lower().endswith(".safetensors"):
            releases.append(release_of_file(Path(model)))
        else:
            path, _ = registry.resolve(model)
            entry = registry.find(model)
            card = card_of(entry) if is_own(entry) else registry.models_folder() / f"{model}.md"
            releases.append(release_of_entry(entry, path, card))
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
    "export": _export,
    "verify": _verify,
    "remove": _remove,
    "path": _path,
    "publish": _publish,
}


@contextmanager
def _stopping(console: Console) -> Iterator[CancelToken]:
    """Stop a transfer between two pieces at the first Ctrl-C, immediately at the second; keep what was received."""
    said = "stopping; what was received is kept. Press Ctrl-C again to stop immediately."
    with stop_on_signals(lambda _: console.status(said)) as cancel:
        yield cancel


def _with_needs(entries: Iterable[ModelEntry]) -> Iterator[ModelEntry]:
    """Yield the entries, each once and each after the base weights that it was trained on."""
    seen = set()
    for entry in entries:
        for needed in ([registry.find(entry.base)] if entry.base else []) + [entry]:
            if needed.name not in seen:
                seen.add(needed.name)
                yield needed


def _describe(entry: ModelEntry, cache: ModelCache) -> dict[str, Any]:
    here = location(entry).is_file() if entry.embedded else cache.is_installed(entry)
    partial = 0 if entry.embedded else cache.kept(entry)
    return {
        **dataclasses.asdict(entry),
        "installed": here,
        "path": str(location(entry)),
        "partial_bytes": partial,
        "classes": [dataclasses.asdict(one) for one in classes_of(entry)],
    }


def _state(entry: ModelEntry, cache: ModelCache) -> str:
    needed = newer_torch_for(entry.package)
    return f"not available, needs PyTorch {needed} or newer" if needed else _place(entry, cache)


def _place(entry: ModelEntry, cache: ModelCache) -> str:
    if entry.embedded:
        return "comes with the program" if location(entry).is_file() else "missing: reinstall the program"
    if cache.is_installed(entry):
        return "installed"
    if kept := cache.kept(entry):
        return f"{size_text(kept)} received, download can be resumed"
    return "not installed" if entry.sha256 and entry.urls else "not installed, import only"


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
