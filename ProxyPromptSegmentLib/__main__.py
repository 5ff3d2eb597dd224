"""The command ``proxyprompt``, also as ``python -m ProxyPromptSegmentLib``: the command line, if it can be loaded."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from ProxyPromptSegmentLib.package_loading import loading, threads_sleep


def main() -> int:
    """Run the command line; return its exit code, see `errors`.

    ``python -m`` looks for every package in the working folder first, where a file that is called ``numpy.py`` would be
    loaded; it is looked at no more unless this program lies in it.
    """
    with suppress(OSError):  # the working folder may be gone
        if sys.path and Path(sys.path[0]).resolve() == Path.cwd() != Path(__file__).resolve().parents[1]:
            del sys.path[0]
    threads_sleep()
    try:
        with loading():
            from ProxyPromptSegmentLib.cli import main as run
    except (ImportError, AttributeError, SyntaxError, TypeError) as error:
        if sys.stderr is not None:
            sys.stderr.write(f"proxyprompt: {_foreign(error)}\n")
        return 1
    return run()


def _foreign(error: Exception) -> str:
    """Describe what cannot be loaded, and which package is not the one that was installed with this program."""
    places = {name: _place(name) for name in ("numpy", "SimpleITK", "nrrd", "PIL", "pydicom", "tqdm")}
    own = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    other = [f"{name} is {place}" for name, place in places.items() if place and not _inside(place, own)]
    if other:
        return (
            f"a Python package cannot be loaded ({error}): {', '.join(other)}, which is not of this installation. "
            "Rename that file, or start without the variable PYTHONPATH."
        )
    return f"a Python package cannot be loaded ({error}); run `python3 setup_env.py install`."


def _place(name: str) -> Path | None:
    """Return where a package would be loaded from."""
    try:
        found = find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(found.origin).resolve() if found is not None and found.origin else None


def _inside(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


if __name__ == "__main__":
    sys.exit(main())
