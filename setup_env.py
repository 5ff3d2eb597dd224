#!/usr/bin/env python3
"""Sets up ProxyPromptSegment in .venv and runs it: demo, test, lint, install, run.

Standard library only. The syntax is that of very old Pythons on purpose: they must get as far as the sentence that
tells them to be newer.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
OLDEST, NEWEST = (3, 10), (3, 13)
MARKER = ".made-by-proxyprompt"
STAMP = ".proxyprompt-stamp"
CONSTRAINTS = os.path.join(ROOT, "Resources", "constraints.txt")
# PyTorch's own index of builds without CUDA; the default index has only CUDA builds for Linux on x86.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# The sdist that was compared file by file with the upstream repository; another file of that name is refused.
SAM2 = "sam2==1.1.0 --hash=sha256:7e0ea252d43c10d853e3acfce0b5770ac683c30481bd6de311300e9d44f45b74\n"
FREE_GB = {"cpu": 3, "cuda": 10}
FAST_TESTS = "not gpu and not network and not slicer and not slow"

USAGE, PYTHON, NETWORK, DISK, INSTALL, FOLDER, INTERRUPTED = 2, 3, 4, 5, 6, 7, 130


class SetupError(Exception):
    """A failure with one sentence for the user and an exit code."""

    def __init__(self, code, sentence):
        super(SetupError, self).__init__(sentence)  # noqa: UP008 - see the module's docstring
        self.code = code


def say(text):
    """Prints one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def check_python():
    """Refuses a Python outside of the supported range."""
    found = sys.version_info[:2]
    if not OLDEST <= found <= NEWEST:
        raise SetupError(
            PYTHON,
            "This is Python %d.%d; ProxyPromptSegment needs Python 3.10 to 3.13. Run it with one of these, for example: "
            "python3.12 setup_env.py demo" % found,
        )


def venv_python(venv):
    """The interpreter of a virtual environment."""
    return os.path.join(venv, "Scripts", "python.exe") if os.name == "nt" else os.path.join(venv, "bin", "python")


def has_nvidia_driver():
    """Whether an NVIDIA driver answers on this machine."""
    if os.path.exists("/proc/driver/nvidia/version"):
        return True
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        return subprocess.call([tool, "-L"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def wanted_stamp(flavour):
    """A hash of everything that decides what is in the environment."""
    digest = hashlib.sha256()
    for name in (CONSTRAINTS, os.path.join(ROOT, "pyproject.toml"), os.path.abspath(__file__)):
        with open(name, "rb") as file:
            digest.update(file.read())
    digest.update(json.dumps([sys.version_info[:3], flavour, ROOT]).encode("utf-8"))
    return digest.hexdigest()


def read_stamp(venv):
    """The stamp of a finished environment, or None."""
    try:
        with open(os.path.join(venv, STAMP)) as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def locked(venv):
    """Lets one set-up at a time work on an environment; the lock ends with the process, however that ends."""
    path = venv + ".lock"
    try:
        handle = open(path, "a")
    except OSError as error:
        raise SetupError(FOLDER, "%s cannot be written (%s); copy the project to a folder of your own." % (path, error))
    waited = False
    try:
        while not try_lock(handle):
            if not waited:
                say("Another set-up is at work on %s; waiting for it." % venv)
                waited = True
            time.sleep(1)
        yield
    finally:
        handle.close()


def try_lock(handle):
    """Takes the operating system's lock on an open file, without waiting."""
    try:
        if os.name == "nt":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def usable(venv):
    """Whether the environment's Python runs, has pip and is of this version."""
    code = "import sys, pip; sys.exit(0 if list(sys.version_info[:2]) == %r else 1)" % (list(sys.version_info[:2]),)
    try:
        return subprocess.call([venv_python(venv), "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_venv(venv):
    """Makes the environment, or repairs it by making it again; never removes a folder that is not ours."""
    if os.path.exists(venv):
        if usable(venv) and os.path.exists(os.path.join(venv, MARKER)):
            return
        if not os.path.exists(os.path.join(venv, MARKER)) and os.listdir(venv):
            raise SetupError(
                FOLDER,
                "%s exists and was not made by this program, so it is left alone; move it away or name another folder with "
                "--venv." % venv,
            )
        say("Repairing %s" % venv)
        shutil.rmtree(venv)
    try:
        os.makedirs(venv)
        with open(os.path.join(venv, MARKER), "w") as file:
            file.write("setup_env.py of ProxyPromptSegment may remove this folder\n")
    except OSError as error:
        raise SetupError(FOLDER, "%s cannot be made (%s); copy the project to a folder of your own." % (venv, error))
    process = subprocess.run(
        [sys.executable, "-m", "venv", venv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    if process.returncode != 0 or not usable(venv):
        if "No space left" in process.stdout:
            raise SetupError(DISK, "The disk is full; free about %d GB and run it again." % FREE_GB["cpu"])
        raise SetupError(
            INSTALL,
            "This Python cannot make virtual environments. On Debian or Ubuntu: sudo apt install python%d.%d-venv; elsewhere "
            "install Python from python.org. It said: %s" % (sys.version_info[:2] + (last_line(process.stdout),)),
        )


def last_line(text):
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def classify(text, log):
    """Turns pip's output into a sentence and an exit code."""
    low = text.lower()
    if "no space left" in low or "errno 28" in low or "not enough space" in low or "disk quota" in low:
        return SetupError(DISK, "The disk became full; free some space and run it again, it goes on. Log: %s" % log)
    network = (
        "name resolution",
        "failed to establish a new connection",
        "newconnectionerror",
        "proxyerror",
        "connection refused",
        "connection reset",
        "network is unreachable",
        "connecttimeout",
        "readtimeout",
        "timed out",
        "max retries exceeded",
        "certificate verify failed",
        "from versions: none",
    )
    if any(word in low for word in network):
        return SetupError(
            NETWORK,
            "The package index cannot be reached; check the network, proxy (HTTPS_PROXY) and certificates, then run it again. "
            "Log: %s" % log,
        )
    if "hashes" in low and "do not match" in low:
        return SetupError(INSTALL, "A downloaded file is not the one that was tested (wrong hash); nothing of it was used. Log: %s" % log)
    errors = [line for line in text.splitlines() if line.startswith("ERROR")] or [last_line(text)]
    return SetupError(INSTALL, "pip failed: %s Log: %s" % (errors[-1].strip(), log))


class Installer(object):  # noqa: UP004 - see the module's docstring
    """Runs pip in the environment, one line on the screen per step, all its words in a log."""

    def __init__(self, venv, quiet):
        self.python, self.quiet = venv_python(venv), quiet
        self.log = os.path.join(venv, "install.log")
        self.number = 0

    def pip(self, what, arguments, environment=None):
        """Installs something; raises a SetupError that says why it did not work."""
        self.number += 1
        start = time.time()
        if not self.quiet:
            say("[%d] %s" % (self.number, what))
        with open(self.log, "a+") as log:
            log.write("\n== %s: pip install %s\n" % (what, " ".join(arguments)))
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(
                [self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"] + arguments,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=dict(os.environ, **(environment or {})),
            )
            try:
                self.wait(process, start)
            except KeyboardInterrupt:
                process.terminate()
                process.wait()
                raise
            if process.returncode != 0:
                log.seek(begin)
                raise classify(log.read(), self.log)

    def wait(self, process, start):
        """Waits, with a sign of life every half minute."""
        beat = start
        while process.poll() is None:
            time.sleep(0.2)
            if time.time() - beat > 30 and not self.quiet:
                beat = time.time()
                say("    still at it after %d s" % (beat - start))


def install(venv, flavour, quiet):
    """Fills the environment, step by step; every step may be repeated."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < FREE_GB[flavour]:
        raise SetupError(
            DISK, "Only %.1f GB are free on this disk, about %d GB are needed; free some and run it again." % (free, FREE_GB[flavour])
        )
    make_venv(venv)
    installer = Installer(venv, quiet)
    pinned = ["-c", CONSTRAINTS]
    # Without a driver the CUDA libraries are gigabytes for nothing. Windows and macOS get the right build by default.
    source = ["--extra-index-url", CPU_INDEX, "--retries", "2"] if flavour == "cpu" and sys.platform == "linux" else []
    installer.pip("build tools", ["setuptools", "wheel"])
    installer.pip("PyTorch (%s)" % flavour, pinned + source + ["torch"])
    # Without its dependencies: it must not replace the torch that was just chosen.
    installer.pip("torchvision", pinned + source + ["--no-deps", "torchvision"])
    installer.pip("ProxyPromptSegment and what it needs", pinned + ["--no-build-isolation", "-e", ROOT + "[test]"])
    requirement = os.path.join(venv, "sam2.txt")
    with open(requirement, "w") as file:
        file.write(SAM2)
    # Its build would fetch another torch and look for a CUDA compiler.
    installer.pip("SAM 2", ["--no-deps", "--no-build-isolation", "-r", requirement], {"SAM2_BUILD_CUDA": "0"})
    check = "from ProxyPromptSegmentLib.torchvision_guard import ensure_torchvision_importable as e; e(); import segment_anything, sam2, peft"
    process = subprocess.run(
        [venv_python(venv), "-c", check], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, cwd=ROOT
    )
    if process.returncode != 0:
        raise SetupError(INSTALL, "The packages were installed but do not import: %s" % last_line(process.stdout))


def ensure(venv, flavour, again, quiet):
    """Sets up the environment unless its stamp says that it is ready."""
    wanted = wanted_stamp(flavour)
    if not again and read_stamp(venv) == wanted and os.path.exists(venv_python(venv)):
        return
    with locked(venv):
        if not again and read_stamp(venv) == wanted and usable(venv):
            return
        if os.path.exists(os.path.join(venv, STAMP)):
            os.remove(os.path.join(venv, STAMP))
        say("Setting up %s for Python %s" % (venv, platform.python_version()))
        try:
            install(venv, flavour, quiet)
            with open(os.path.join(venv, STAMP), "w") as file:
                file.write(wanted)
        except OSError as error:
            if error.errno == 28:
                raise SetupError(DISK, "The disk became full; free some space and run it again.")
            raise SetupError(FOLDER, "%s cannot be used (%s)." % (venv, error))
    say("Ready.")


def commands(venv, what, rest):
    """The commands that follow the set-up."""
    python = venv_python(venv)
    lint = [
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "mypy"],
    ]
    return {
        "install": [],
        "demo": [[python, "-m", "ProxyPromptSegmentLib", "demo", "--output", "demo"] + rest],
        "run": [[python, "-m", "ProxyPromptSegmentLib"] + rest],
        "lint": lint,
        "test": lint + [[python, "-m", "pytest", "Testing", "-q", "-m", FAST_TESTS] + rest],
    }[what]


def parse(arguments):
    """Reads the command line; what follows ``--`` is handed on."""
    rest = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, rest = arguments[:cut], arguments[cut + 1 :]
    parser = argparse.ArgumentParser(description="Sets up ProxyPromptSegment in .venv and runs it. Research use only.")
    parser.add_argument("command", choices=("demo", "test", "lint", "install", "run"), help="what to do after the set-up")
    parser.add_argument("--torch", choices=("auto", "cpu", "cuda"), default="auto", help="build of PyTorch (auto: by driver)")
    parser.add_argument("--venv", default=os.path.join(ROOT, ".venv"), help="folder of the environment")
    parser.add_argument("--reinstall", action="store_true", help="install again, even if everything is there")
    parser.add_argument("--quiet", action="store_true", help="fewer words")
    known, more = parser.parse_known_args(arguments)
    if more and known.command not in ("run", "test"):
        parser.error("unknown: %s" % " ".join(more))
    return known, more + rest


def main(arguments):
    """Runs one command; returns the exit code."""
    try:
        check_python()
        options, rest = parse(arguments)
        flavour = options.torch
        if flavour == "auto":
            flavour = "cuda" if has_nvidia_driver() else "cpu"
        ensure(os.path.abspath(options.venv), flavour, options.reinstall, options.quiet)
        for command in commands(os.path.abspath(options.venv), options.command, rest):
            code = subprocess.call(command, cwd=os.getcwd() if options.command == "run" else ROOT)
            if code != 0:
                return code
    except SetupError as error:
        sys.stderr.write("%s\n" % error)
        return error.code
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped; run it again and it goes on.\n")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
