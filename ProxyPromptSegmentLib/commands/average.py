"""``python -m ProxyPromptSegmentLib.commands.average``: average checkpoints, for developers of models.

It is not a subcommand of ``proxyprompt``, because it is never needed for segmenting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ProxyPromptSegmentLib.commands.checks import check_outputs
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.errors import EXIT_OK, ProxyPromptError
from ProxyPromptSegmentLib.training.averaging import average_checkpoints

DESCRIPTION = """\
Write the weighted mean of the weights of two or more checkpoints of one architecture.
"""
EXAMPLES = """\
example:
  python -m ProxyPromptSegmentLib.commands.average second.safetensors third.safetensors \\
      --shares 0.25 0.75 --output mean.safetensors
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="average",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE", help="checkpoints of one architecture")
    parser.add_argument(
        "--output", dest="out", required=True, type=Path, metavar="FILE", help="the .safetensors file to write"
    )
    parser.add_argument(
        "--shares", nargs="+", type=float, metavar="S", help="weight of each checkpoint; they sum to 1 (equal weights)"
    )
    parser.add_argument("--name", help="name of the resulting model (that of the checkpoint with the largest share)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, see `errors`."""
    args = build_parser().parse_args(argv)
    console = Console("average")
    shares = args.shares or [1 / len(args.checkpoints)] * len(args.checkpoints)
    try:
        files = [path for path in args.checkpoints if path.is_file()]
        check_outputs([("--output", args.out, (".safetensors",))], files, args.force)

        digest = average_checkpoints(args.checkpoints, shares, args.out, args.name)
    except ProxyPromptError as error:
        console.error(worded(error))
        return error.exit_code
    console.say(f"wrote {args.out}, SHA-256 {digest}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
