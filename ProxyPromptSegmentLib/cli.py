"""The command line ``proxyprompt``: its subcommands, its error messages and its exit codes."""

from __future__ import annotations

import argparse
import codecs
import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.progress_bars import BYTE
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.commands.streams import no_stream
from ProxyPromptSegmentLib.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, UsageError, as_user_error
from ProxyPromptSegmentLib.package_loading import loading

DESCRIPTION = """\
Segment a new medical image from one that is already annotated.

You need two cases: one in which an organ is already segmented (the support), and a new one (the
target). The program compares them and segments the organ in the target, slice by slice, without
clicks and without training.
"""
EPILOG = """\
getting started:
  proxyprompt demo --output demo
      create two artificial pelvis scans, segment the prostate of one from the other, and draw a picture
  proxyprompt segment --support old.nrrd old.seg.nrrd --target new.nrrd --output new.seg.nrrd
      do the same with your own cases; open new.nrrd and new.seg.nrrd in 3D Slicer
  proxyprompt track --support frame.png mask.png --target sweep.mp4 --output sweep.seq.nrrd
      follow what is marked on one frame through another patient's clip
  proxyprompt segment --help
      all options, with examples

exit codes: 0 success, 1 internal error (a bug; please report it), 2 invalid option, 3 unusable image,
  4 unusable support, 5 grids do not match, 6 result cannot be written, 7 unusable model,
  8 unusable device, 9 done, but nothing was found (the result is written, and empty;
  everything writes only its report),
  or an adapted model is not better (and is not kept),
  10 some studies of a cohort, or cases of evaluate --cases or library import, failed (and are listed),
  130 stopped by Ctrl-C (finished slices and frames are kept)

Research use only. Not for diagnosis.
"""
_COMMANDS = {
    "segment": "segment a new case from an annotated one",
    "cohort": "segment many studies alike, resumable, by one process or many",
    "track": "track objects through a clip or a volume",
    "everything": "segment everything that an image shows, without a support",
    "demo": "segment an artificial case in a few seconds, without data",
    "library": "keep annotated cases for later, as 3D Slicer's support library does",
    "models": "list, download, verify and publish models and weights",
    "adapt": "teach a model your own structure from a few annotated cases",
    "train": "train a model from a recipe",
    "evaluate": "measure models on annotated cases of your own, or on public data",
    "benchmark": "measure speed on this machine, as ratios",
}

_UNITS = {
    "train": "second",
    "track": "frame",
    "adapt": "step",
    "everything": "point",
    "cohort": "study",
    "benchmark": "row",
    "evaluate": "target",
    "models": BYTE,
    "library": "case",
}  # the name of one step in the progress line


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises a `UsageError` for a wrong option, instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'.")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the program.

    Args:
        command: The subcommand whose options are wanted; the modules of the others are not imported, which would take
            half as long as PyTorch's at each start. None means all of them.
    """
    parser = _Parser(
        prog="proxyprompt",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"proxyprompt {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name, short in _COMMANDS.items():
        if command not in (None, name):
            commands.add_parser(name, help=short)
            continue
        with loading():
            module = importlib.import_module(f"ProxyPromptSegmentLib.commands.{name}")
        sub = commands.add_parser(
            name,
            help=short,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="print the full traceback of an error")
        sub.set_defaults(run=module.run)
    return parser


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the options that words stand for.

    Raises:
        UsageError: If one is wrong; of an option that does not exist it names those of the subcommand that are like it.
    """
    parser = build_parser(_command_in(words))
    args, unknown = parser.parse_known_args(words)
    if not unknown:
        return args
    commands = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    known = [one for one in commands.choices[args.command]._option_string_actions if one.startswith("--")]
    alike = [near for word in unknown for near in difflib.get_close_matches(word.partition("=")[0], known, 1, 0.75)]
    meant = f"did you mean {' and '.join(alike)}? See" if alike else "see"
    raise UsageError(f"unrecognized arguments: {' '.join(unknown)}; {meant} 'proxyprompt {args.command} --help'.")


def _command_in(words: Sequence[str]) -> str:
    """Return the subcommand that words ask for: the first that is no option, since none before it has a value."""
    named = next((word for word in words if not word.startswith("-")), "")
    return named if named in _COMMANDS else ""


def _as_in_json(error: UnicodeError) -> tuple[str, int]:
    r"""Return characters that a stream cannot encode as JSON writes them: ``\\u00f6``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2)), error.end


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; by default those of the process.

    Returns:
        The exit code, see `errors`.
    """
    codecs.register_error("as-in-json", _as_in_json)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed; what is opened next must not become it
            setattr(sys, name, no_stream())
        stream = getattr(sys, name)
        # A segment's name may contain characters that the terminal cannot encode.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="as-in-json")
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    debug = "--debug" in words
    try:
        if not words:
            build_parser("").print_help()
            return 0
        args = _parsed(words)
        console = Console(
            f"proxyprompt {args.command}",
            quiet=getattr(args, "quiet", False),
            json=getattr(args, "json", False),
            progress=getattr(args, "progress", None),
            unit=_UNITS.get(args.command, "slice"),
        )
        return int(args.run(args, console))
    except SystemExit as leaving:  # --help and --version
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        console.error("stopped immediately; the running step was aborted and left no file.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has closed it, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost handler: every error becomes one sentence
        if debug:
            import traceback

            traceback.print_exc()
        return _explain(error, console)


def _explain(error: Exception, console: Console) -> int:
    """Show an error as one sentence; return its exit code."""
    known = as_user_error(error)
    if known is not None:
        console.error(worded(known))
        return known.exit_code
    console.error(
        f"internal error ({type(error).__name__}: {str(error)[:300]}); please report it with the output of the same "
        "command and --debug."
    )
    return EXIT_INTERNAL
