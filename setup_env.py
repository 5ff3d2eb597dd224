#!/usr/bin/env python3
"""Sets up ProxyPromptSegment in .venv and runs it: demo, test, lint, install, run.

Standard library only. The syntax is that of very old Pythons on purpose (no f-strings, no annotations): they must get
as far as the sentence that tells them to be newer.

What may be relied on: a finished environment carries a stamp, written last, that names what is in it; one that has no
stamp, another stamp or a broken Python is repaired; a folder without our marker is never touched.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.realpath(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 10), (3, 13)
CONSTRAINTS = os.path.join(ROOT, "Resources", "constraints.txt")
PYPROJECT = os.path.join(ROOT, "pyproject.toml")
# In the environment: whose it is; that pip is at work; what is in it.
MARKER, BUSY, STAMP, LOG = ".made-by-proxyprompt", ".proxyprompt-busy", ".proxyprompt-stamp", "install.log"

# The default index has only CUDA builds for Linux and only CPU builds for Windows; PyTorch's own has the others. Their
# versions (2.13.0+cpu) count as newer than the plain one, so pip takes them wherever it finds them.
TORCH_INDEX = {
    ("linux", "cpu"): "https://download.pytorch.org/whl/cpu",
    ("win32", "cuda"): "https://download.pytorch.org/whl/cu130",
}
# The file that was compared with the upstream repository, byte by byte; another one of that name is refused.
SAM2 = "sam2==1.1.0 --hash=sha256:7e0ea252d43c10d853e3acfce0b5770ac683c30481bd6de311300e9d44f45b74\n"
# Only read by a test, never installed.
MAMBA_SOURCE = (
    "mamba-ssm==2.3.2.post1 "
    "--hash=sha256:104cc47e9101e5401a675fa2b784f2952b9b037f3b1dd83b5ac544394e95d028\n"
)
# Only for tests, and only where there are builds.
MRML = ["slicer-core", "PySide6-Essentials"]
FREE_GB = {"cpu": 3, "cuda": 9}
FAST_TESTS = "not gpu and not network and not slicer and not slow"
COMMANDS = ("demo", "test", "lint", "install", "run")
STEPS = 8

USAGE, PYTHON, NETWORK, DISK, INSTALL, FOLDER, INTERRUPTED = 2, 3, 4, 5, 6, 7, 130

# What pip says when something goes wrong, in the order in which it decides.
REASONS = (
    ("disk", ("no space left", "errno 28", "not enough space", "disk quota exceeded")),
    ("hash", ("do not match the hashes",)),
    ("build", ("subprocess-exited-with-error", "failed to build")),
    ("folder", ("oserror: [errno 13]", "oserror: [errno 30]", "oserror: [winerror 5]", "read-only file system")),
    ("network", ("name resolution", "name or service not known", "getaddrinfo failed", "retrying (", "proxyerror")),
    (
        "network",
        ("new connection", "newconnectionerror", "connection refused", "connection reset", "connection aborted"),
    ),
    ("network", ("network is unreachable", "connecttimeout", "readtimeout", "timed out", "max retries exceeded")),
    ("network", ("certificate_verify_failed", "certificate verify failed", "incompleteread")),
    # Every pin exists in the public index, for every system that PyTorch has; another index may lack some.
    ("network", ("from versions:", "resolutionimpossible", "no matching distribution")),
)


class SetupError(Exception):
    """A failure with one sentence for the user and an exit code."""

    def __init__(self, code, sentence):
        super(SetupError, self).__init__(sentence)
        self.code = code


def check_python():
    """Refuses what PyTorch has no builds for: another version, another implementation, 32 bits."""
    found = "%s %s" % (platform.python_implementation(), platform.python_version())
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        wrong = ""
    elif platform.python_implementation() != "CPython":
        wrong = "the ordinary CPython, "
    elif sys.maxsize < 2**32:
        wrong = "a 64-bit build, "
    elif "t" in getattr(sys, "abiflags", ""):
        wrong = "a build with the global lock, "
    else:
        return
    raise SetupError(
        PYTHON,
        "This is %s; ProxyPromptSegment needs %sPython 3.10, 3.11, 3.12 or 3.13: %s."
        % (found, wrong, "run for example `python3.12 setup_env.py demo`, or get one from your system or python.org"),
    )


def say(text, end="\n"):
    """Writes to the screen at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def gigabytes_free(path):
    """Free space where a path is or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free / 1e9


def disk_full(venv):
    """The sentence for a full disk."""
    free = "%.1f GB are free there now; free some space and run it again, or name another place with --venv"
    return SetupError(DISK, ("The disk of %s became full: " + free + ".") % (venv, gigabytes_free(venv)))


def classify(text, venv, start="pip failed"):
    """Turns what a program said into a sentence and an exit code.

    Args:
        text: Everything that it printed.
        venv: Folder of the environment, where the log is.
        start: How the sentence begins where the words say nothing more.
    """
    low = text.lower()
    kind = next((kind for kind, words in REASONS if any(word in low for word in words)), "")
    if kind == "disk":
        return disk_full(venv)
    if kind == "network":
        code, sentence = (
            NETWORK,
            (
                "The package index cannot be reached, or lacks what Python %s on %s needs; check network, proxy "
                "(HTTPS_PROXY) and certificates (PIP_CERT), and run it again."
                % (platform.python_version(), platform.platform())
            ),
        )
    elif kind == "folder":
        code, sentence = (
            FOLDER,
            "A folder may not be written; copy the project to one of your own: %s." % error_line(text).rstrip("."),
        )
    elif kind == "hash":
        code, sentence = INSTALL, "A downloaded file is not the one that was tested (another hash), and was not used."
    else:
        code, sentence = INSTALL, "%s: %s" % (start, error_line(text).rstrip(".") + ".")
    return SetupError(code, "%s The log: %s" % (sentence, os.path.join(venv, LOG)))


def error_line(text):
    """The line of a program's output that most likely says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["(it said nothing)"]
    return ([line for line in lines if line.startswith(("ERROR", "error"))] or lines)[-1]


class Environment(object):
    """The virtual environment: what it is made of, and in which state it is."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        windows = os.name == "nt"
        self.python = self.path("Scripts", "python.exe") if windows else self.path("bin", "python")
        version = "python%d.%d" % sys.version_info[:2]
        self.packages = self.path("Lib", "site-packages") if windows else self.path("lib", version, "site-packages")

    def path(self, *parts):
        """A path in it."""
        return os.path.join(self.folder, *parts)

    def has(self, name):
        """Whether a file of ours is in it."""
        return os.path.exists(self.path(name))

    def works(self):
        """Whether its Python is of this version, starts, and has pip."""
        if not os.path.isfile(os.path.join(self.packages, "pip", "__init__.py")):
            return False
        try:
            return subprocess.call([self.python, "-I", "-S", "-c", ""], stderr=subprocess.DEVNULL) == 0
        except OSError:
            return False

    def note(self, name):
        """What a set-up has written down in the marker or the stamp; an empty dict if there is none."""
        try:
            with open(self.path(name)) as file:
                return dict(json.load(file))
        except (OSError, ValueError, TypeError):
            return {}

    def ready(self, flavour):
        """Whether everything is there; the flavour "auto" takes the build of PyTorch that is there."""
        return (
            self.note(STAMP).get("content") == content_hash(self.folder)
            and flavour in ("auto", self.note(MARKER).get("torch"))
            and os.path.isfile(os.path.join(self.packages, "torch", "version.py"))
            and self.works()
        )

    def finish(self):
        """Writes the stamp, in one piece."""
        with open(self.path(STAMP + ".new"), "w") as file:
            json.dump({"content": content_hash(self.folder)}, file)
        os.replace(self.path(STAMP + ".new"), self.path(STAMP))

    def torch_version(self):
        """Version of the installed PyTorch, such as ``2.13.0+cpu``; empty if there is none."""
        names = os.listdir(self.packages) if os.path.isdir(self.packages) else []
        found = [name[len("torch-") : -len(".dist-info")] for name in names if name.startswith("torch-")]
        return found[0] if found else ""

    def has_cuda(self):
        """Whether the installed PyTorch is a CUDA build; asks its list of needs where the version says nothing."""
        version = self.torch_version()
        if "+" in version:
            return "+cu" in version
        try:
            with open(os.path.join(self.packages, "torch-%s.dist-info" % version, "METADATA")) as file:
                return "Requires-Dist: nvidia-" in file.read() and sys.platform == "linux"
        except (OSError, UnicodeDecodeError):
            return False

    def refuse_foreign(self):
        """Leaves a folder alone that somebody else made."""
        taken = os.path.lexists(self.folder) and not (os.path.isdir(self.folder) and not os.listdir(self.folder))
        if taken and not self.has(MARKER):
            raise SetupError(
                FOLDER,
                "%s exists and was not made by this program, so it is left alone; move it away, or name another "
                "folder with --venv." % self.folder,
            )

    def claim(self, flavour):
        """Makes the folder ours and empty, for a build of PyTorch."""
        self.refuse_foreign()
        if not os.path.isdir(self.folder):
            os.makedirs(self.folder)
        with open(self.path(MARKER), "w") as file:
            json.dump(
                {"torch": flavour, "note": "setup_env.py of ProxyPromptSegment made this folder and may empty it"}, file
            )
        # The folder itself stays (it may be a link to a larger disk), and so does the marker.
        for name in os.listdir(self.folder):
            path = self.path(name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif name != MARKER:
                os.remove(path)


def content_hash(folder):
    """A hash of what decides what is in an environment; PyTorch's build is told apart from it."""
    digest = hashlib.sha256()
    with open(CONSTRAINTS, "rb") as file:
        digest.update(file.read())
    with open(PYPROJECT, "rb") as file:
        # Only the project's own part: settings of tools change nothing that is installed.
        digest.update(file.read().split(b"[tool.ruff]")[0])
    # An environment knows its own place and the project's by absolute paths, so a moved one is made again.
    place = [sys.version_info[:2], platform.machine(), os.path.realpath(folder), ROOT, SAM2]
    digest.update(json.dumps(place).encode("utf-8"))
    return digest.hexdigest()


@contextlib.contextmanager
def locked(environment):
    """Lets one set-up at a time work on an environment; yields the lock's file.

    It is the operating system's lock, so it ends with its holders. pip inherits it: where a set-up was killed and its
    pip still works, the next one waits.
    """
    path = environment.folder + ".lock"
    handle = open(path, "a")
    waited = False
    try:
        while not try_lock(handle):
            if not waited:
                say("Another set-up is at work on %s; waiting for it." % environment.folder)
                waited = True
            time.sleep(0.5)
        yield handle
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
    except OSError as error:
        # A file system that knows no locks must not keep anybody out for ever.
        return error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
    return True


def nvidia_driver():
    """Whether an NVIDIA driver answers on this machine."""
    if os.path.exists("/proc/driver/nvidia/version"):
        return True
    tool = shutil.which("nvidia-smi")
    try:
        return tool is not None and subprocess.call([tool, "-L"], stdout=subprocess.DEVNULL, timeout=20) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def clean_environ():
    """The process's variables without those that would lead another Python's packages in."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX")}
    environ.update(PYTHONNOUSERSITE="1", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    return environ


class Shell(object):
    """Runs programs; tests put another one in its place."""

    def __init__(self, quiet=False):
        self.quiet = quiet

    def logged(self, title, command, log, environ, lock=None):
        """Runs a program with its output in a log and one line on the screen; returns its exit code.

        A terminal sees the last line of the log beside the seconds; a file gets a number every half minute. The
        program inherits the lock, if there is one.
        """
        start = beat = time.time()
        terminal = sys.stdout.isatty()
        keep = {} if os.name == "nt" or lock is None else {"pass_fds": (lock.fileno(),)}
        if not self.quiet:
            say(title, end="" if not terminal else "\r")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environ, cwd=ROOT, **keep
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if time.time() - beat > (0.5 if terminal else 30) and not self.quiet:
                    beat = time.time()
                    seconds = " %d s" % (beat - start)
                    if terminal:
                        width = shutil.get_terminal_size().columns - 1
                        say("\r\033[K" + (title + seconds + "  " + last_words(log.name))[:width], end="")
                    else:
                        say(seconds, end="")
        except BaseException:
            process.terminate()
            process.wait()
            say("")
            raise
        if not self.quiet:
            ending = "done in %d s" % (time.time() - start) if process.returncode == 0 else "failed"
            say(("\r\033[K" + title if terminal else "") + ", " + ending)
        return process.returncode

    def call(self, command, cwd):
        """Runs a program on this screen; returns its exit code."""
        sys.stdout.flush()
        process = subprocess.Popen(command, cwd=cwd, env=clean_environ())
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # Ctrl-C reaches the program as well, and it decides what it keeps.

    def become(self, command, cwd):
        """Hands over to a program for good, so that signals, screen and exit code are its own."""
        if os.name == "nt":
            return self.call(command, cwd)
        sys.stdout.flush()
        os.chdir(cwd)
        os.execve(command[0], command, clean_environ())


def last_words(path):
    """The last line of a log, for the screen."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 500))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Installer(object):
    """Fills an environment, step by step. Every step may be repeated."""

    def __init__(self, environment, shell, lock):
        self.environment, self.shell, self.lock = environment, shell, lock
        self.number = 0

    def step(self, what, command, environ=None, start="pip failed"):
        """Runs one step; raises a SetupError that says why it did not work."""
        self.number += 1
        log_file, busy = self.environment.path(LOG), self.environment.path(BUSY)
        with open(log_file, "a") as log:
            log.write("\n== %s: %s\n" % (what, " ".join(command)))
            log.flush()
            begin = os.path.getsize(log_file)
            open(busy, "w").close()
            title = "[%d/%d] %s" % (self.number, STEPS, what)
            environ = dict(clean_environ(), **(environ or {}))
            code = self.shell.logged(title, command, log, environ, self.lock)
        with open(log_file, "rb") as log:
            log.seek(begin)
            said = log.read().decode("utf-8", "replace")
        if code < 0:
            raise SetupError(
                INSTALL,
                "%s was killed (signal %d), perhaps for want of memory; run it again." % (title, -code),
            )
        failure = classify(said, self.environment.folder, start) if code else None
        if failure is None or failure.code != DISK:
            os.remove(busy)  # pip fetches everything before it installs anything: nothing is torn.
        if failure is not None:
            raise failure
        return said

    def pip(self, what, *arguments, **environ):
        """Installs something with pip."""
        temporary = self.environment.path("tmp")
        if not os.path.isdir(temporary):
            os.makedirs(temporary)
        if os.name != "nt":
            environ.setdefault("TMPDIR", temporary)  # /tmp is often small; wheels of gigabytes go through it.
        # Without bytecode: Python makes it where it is needed, and most of these files are never imported.
        words = ["install", "--no-input", "--no-compile", "--progress-bar", "off", "-c", CONSTRAINTS]
        return self.step(what, [self.environment.python, "-I", "-m", "pip"] + words + list(arguments), environ)

    def make(self):
        """Makes the environment itself."""
        import importlib.util

        package = "python%d.%d-venv" % sys.version_info[:2]
        if None in (importlib.util.find_spec("venv"), importlib.util.find_spec("ensurepip")):
            raise SetupError(
                INSTALL,
                "This Python lacks the modules that make virtual environments (venv, ensurepip): on Debian and Ubuntu "
                "run `sudo apt install %s`, elsewhere install Python from python.org, and run it again." % package,
            )
        # The interpreter behind the one at work, which may be the very environment that is made again.
        base = getattr(sys, "_base_executable", None) or sys.executable
        title = "environment of Python %s" % platform.python_version()
        self.step(title, [base, "-I", "-m", "venv", self.environment.folder], start="Python made no environment")
        if not self.environment.works():
            raise SetupError(
                INSTALL,
                "Python's own venv made no usable environment in %s; install Python from python.org, "
                "and run it again." % self.environment.folder,
            )

    def fill(self, flavour):
        """Installs PyTorch first, then what needs it, and looks whether it can be imported."""
        self.pip("pip, setuptools, wheel", "pip", "setuptools", "wheel")
        index = TORCH_INDEX.get((sys.platform, flavour))
        source = ["--extra-index-url", index, "--retries", "2"] if index else []
        # Without dependencies: only these two may come from PyTorch's index, and torchvision must not replace torch.
        self.pip("PyTorch for %s" % ("CUDA" if flavour == "cuda" else "CPU"), "--no-deps", "torch", *source)
        self.pip("torchvision", "--no-deps", "torchvision", *source)
        if flavour == "cpu" and self.environment.has_cuda():
            self.enough_space("cuda")
            say(
                "Note: no build of PyTorch without CUDA can be reached (%s), so the one with CUDA is installed: about "
                "3 GB to download. It works without a graphics card." % index
            )
        self.pip("what PyTorch needs", "torch", "torchvision")
        requirement = self.environment.path("sam2.txt")
        with open(requirement, "w") as file:
            file.write(SAM2)
        # With isolation its build would fetch another torch; with CUDA it would look for a compiler.
        self.pip("SAM 2", "--no-deps", "--no-build-isolation", "-r", requirement, SAM2_BUILD_CUDA="0")
        self.pip("ProxyPromptSegment and the rest", "--no-build-isolation", "-e", ROOT + "[test]")
        shutil.rmtree(self.environment.path("tmp"), ignore_errors=True)
        self.check(flavour)

    def check(self, flavour):
        """Imports the large packages, which fails where libraries of the system are missing."""
        code = (
            "from ProxyPromptSegmentLib.networks.torchvision_guard import ensure_torchvision_importable; "
            "ensure_torchvision_importable(); import torch, segment_anything, sam2, peft, SimpleITK, slicerio; "
            "print('cuda', torch.cuda.is_available())"
        )
        command = [self.environment.python, "-I", "-c", code]
        said = self.step("a look whether all of it works", command, start="Everything is installed but does not work")
        if flavour == "cuda" and "cuda False" in said:
            say(
                "Note: PyTorch %s cannot use the graphics card (an old driver, or no CUDA build for this system), so "
                "the processor does the work; update the driver, or run it with --torch cpu."
                % self.environment.torch_version()
            )

    def enough_space(self, flavour):
        """Refuses to begin what will not fit."""
        free = gigabytes_free(self.environment.folder)
        if free < FREE_GB[flavour]:
            raise SetupError(
                DISK,
                "Only %.1f GB are free on the disk of %s, about %d GB are needed; free some, or name another place "
                "with --venv." % (free, self.environment.folder, FREE_GB[flavour]),
            )


def set_up(environment, flavour, again, shell):
    """Makes an environment ready; does nearly nothing where it is."""
    if not again and environment.ready(flavour):
        return
    environment.refuse_foreign()
    with locked(environment) as lock:
        if not again and environment.ready(flavour):
            return
        if flavour == "auto":
            flavour = "cuda" if nvidia_driver() else "cpu"
        installer = Installer(environment, shell, lock)
        # What is whole is brought up to date; what is torn, broken or of another kind is made again.
        same = environment.note(MARKER).get("torch") == flavour
        whole = same and not environment.has(BUSY) and environment.works()
        if environment.has(STAMP):
            os.remove(environment.path(STAMP))
        say("Setting up %s (the first time takes minutes, as long as the downloads do)" % environment.folder)
        if again or not whole:
            if environment.has(MARKER):
                say("Making it again: %s" % ("as asked" if again else "it was not finished, or is broken"))
            environment.claim(flavour)
            installer.enough_space(flavour)
            installer.make()
        else:
            installer.number = 1
        installer.fill(flavour)
        environment.finish()
    say("Ready: PyTorch %s, Python %s" % (environment.torch_version(), platform.python_version()))


def parse(arguments):
    """Reads the command line.

    Returns:
        The options, and the words that are handed on to the program or to pytest.
    """
    parser = argparse.ArgumentParser(
        description="Sets up ProxyPromptSegment in .venv and runs it. Research use only.",
        epilog="What follows `run` or `--` goes to the program, what is unknown after `test` to pytest: "
        "`setup_env.py run -- segment --help`, `setup_env.py test -k geometry`; exit codes: 2 options, 3 Python, "
        "4 network, 5 disk, 6 installation, 7 folder, 130 interrupted, or the program's own.",
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=COMMANDS, help="what to do once it is set up")
    parser.add_argument(
        "--torch",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="build of PyTorch (auto: CUDA where an NVIDIA driver answers)",
    )
    parser.add_argument("--venv", default=os.path.join(ROOT, ".venv"), help="folder of the environment (.venv)")
    parser.add_argument("--reinstall", action="store_true", help="makes the environment again")
    parser.add_argument("--quiet", action="store_true", help="says less while it installs")
    rest = []
    if "run" in arguments and not set(arguments[: arguments.index("run")]).intersection(COMMANDS):
        cut = arguments.index("run") + 1
        arguments, rest = arguments[:cut], arguments[cut:]
        rest = rest[1:] if rest[:1] == ["--"] else rest
    elif "--" in arguments:
        cut = arguments.index("--")
        arguments, rest = arguments[:cut], arguments[cut + 1 :]
    options, more = parser.parse_known_args(arguments)
    if more and options.command != "test":
        parser.error("unknown: %s" % " ".join(more))
    if rest and options.command in ("install", "lint"):
        parser.error("%s hands nothing on: %s" % (options.command, " ".join(rest)))
    return options, more + rest


def attempt_for_tests(environment, shell, title, words, file=None):
    """Runs pip for something that only some tests want; whether it worked. A failure ends nothing.

    Args:
        title: What it is, for the screen and the log.
        words: Arguments for pip.
        file: Name and content of a requirements file to be written first.
    """
    environ = dict(clean_environ(), MAMBA_SKIP_CUDA_BUILD="TRUE", PIP_RETRIES="1")
    command = [environment.python, "-I", "-m", "pip"] + words
    try:
        if not os.path.isdir(environment.path("cache")):
            os.makedirs(environment.path("cache"))
        if file is not None:
            with open(file[0], "w") as handle:
                handle.write(file[1])
        with open(environment.path(LOG), "a") as log:
            log.write("\n== %s: %s\n" % (title, " ".join(command)))
            log.flush()
            return shell.logged(title, command, log, environ) == 0
    except OSError:
        return False


def fetch_mamba_source(environment, shell):
    """Fetches mamba-ssm's source, against whose own reference function a test compares; nothing of it is installed.

    Without it that comparison is skipped, with a reason, so a failure here is told and ends nothing.
    """
    cache = environment.path("cache")
    if os.path.isdir(cache) and any(name.startswith("mamba_ssm-") for name in os.listdir(cache)):
        return
    listed = os.path.join(cache, "mamba.txt")
    words = ["download", "--no-input", "--progress-bar", "off", "--no-deps", "--no-binary", ":all:"]
    words += ["--no-build-isolation", "--require-hashes", "-d", cache, "-r", listed]
    if not attempt_for_tests(
        environment, shell, "source of mamba-ssm, to compare with", words, (listed, MAMBA_SOURCE)
    ):
        say("The source of mamba-ssm could not be had; the comparison with it is skipped.")


def install_mrml(environment, shell):
    """Installs Slicer's own libraries, in whose scenes the module is tested, and Qt for its panel.

    They are large (1 GB) and only tests use them, so the demo does without. Where they cannot be had, those tests are
    skipped, with a reason.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return  # there are no builds for other systems
    names = os.listdir(environment.packages) if os.path.isdir(environment.packages) else []
    if all(any(name.startswith(start) for name in names) for start in ("slicer_core-", "pyside6_essentials-")):
        return
    words = ["install", "--no-input", "--no-compile", "--progress-bar", "off", "-c", CONSTRAINTS]
    if not attempt_for_tests(environment, shell, "Slicer's libraries, for the module's tests", words + MRML):
        say("Slicer's libraries could not be had; the tests of the module on real scenes are skipped.")


def run(options, rest, environment, shell):
    """Runs what was asked for; returns the exit code."""
    module = [environment.python, "-m"]
    code = 0
    if options.command in ("lint", "test"):
        for words in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
            code = shell.call(module + words, ROOT) or code
    if options.command == "test":
        if code:
            say("lint found something, see above; the tests run all the same")
        fetch_mamba_source(environment, shell)
        install_mrml(environment, shell)
        code = shell.call(module + ["pytest", "Testing", "-m", FAST_TESTS] + rest, ROOT) or code
    elif options.command == "demo":
        code = shell.become(module + ["ProxyPromptSegmentLib", "demo", "--output", "demo"] + rest, ROOT)
    elif options.command == "run":
        code = shell.become(module + ["ProxyPromptSegmentLib"] + rest, os.getcwd())
    return INTERRUPTED if code == -signal.SIGINT else code


def stop(number, frame):
    """Lets a polite end (SIGTERM) take the same way as Ctrl-C."""
    raise KeyboardInterrupt


def main(arguments, shell=None):
    """Runs one command; returns the exit code."""
    try:
        check_python()
        options, rest = parse(arguments)
        environment = Environment(options.venv)
        shell = shell or Shell(options.quiet)
        before = signal.signal(signal.SIGTERM, stop)
        try:
            set_up(environment, options.torch, options.reinstall, shell)
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
                raise disk_full(environment.folder)
            raise SetupError(
                FOLDER,
                "%s cannot be used (%s); copy the project to a folder of your own, or name another place with --venv."
                % (environment.folder, error),
            )
        finally:
            signal.signal(signal.SIGTERM, before)
        return run(options, rest, environment, shell)
    except SetupError as error:
        sys.stderr.write("%s\n" % error)
        return error.code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; run it again and it goes on.\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
