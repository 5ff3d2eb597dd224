"""The command line ``proxyprompt``: options in, one sentence and an exit code out; `commands` do the work."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.commands import demo, evaluate, models, segment, track, train
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, UsageError, as_user_error

DESCRIPTION = """\
proxyprompt finds in a new medical image what somebody has marked in an old one.

You need two cases: one in which an organ is already segmented (the support), and a new one (the
target). The program compares them and segments the organ in the target, slice by slice, without
a click and without training.
"""
EPILOG = """\
begin here:
  proxyprompt demo --output demo
      makes two artificial pelvis scans, segments the prostate of one from the other, and draws a picture
  proxyprompt segment --support old.nrrd old.seg.nrrd --target new.nrrd --output new.seg.nrrd
      the same with your own cases; open new.nrrd and new.seg.nrrd in 3D Slicer
  proxyprompt track --support frame.png mask.png --target sweep.mp4 --output sweep.seq.nrrd
      follows what is marked on one frame through another patient's clip
  proxyprompt segment --help
      all options, with examples

exit codes: 0 done, 2 wrong option, 3 image cannot be used, 4 support cannot be used, 5 grids do not fit,
  6 result cannot be written, 7 model cannot be used, 8 device cannot be used, 130 stopped by Ctrl-C
  (what was done is kept), 1 internal error (a bug).

Research use only. Not for diagnosis.
"""
_COMMANDS = {
    "segment": (segment, "segment a new case from an annotated one"),
    "track": (track, "follow an object through a clip or a volume"),
    "demo": (demo, "try it on artificial cases, in a few seconds"),
    "models": (models, "list, fetch, check and publish models and weights"),
    "train": (train, "train a model from a recipe"),
    "evaluate": (evaluate, "measure a model on public data"),
}

_UNITS = {"train": "second", "track": "frame"}  # what a step of the progress is called


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'.")


def build_parser() -> argparse.ArgumentParser:
    """Makes the parser with all subcommands."""
    parser = _Parser(
        prog="proxyprompt",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"proxyprompt {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name, (module, short) in _COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=short,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="shows where in the program an error arose")
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        The exit code, see `errors`.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter of a segment's name must not end the work.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    debug = "--debug" in words
    try:
        if not words:
            build_parser().print_help()
            return 0
        args = build_parser().parse_args(words)
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
        console.error("stopped at once; the running step was abandoned and left no file.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the end of the line: a sentence for every error
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
