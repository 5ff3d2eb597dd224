#!/usr/bin/env python3
"""Set up ProxyPromptSegment in .venv and run it: demo, test, lint, install, run.

Standard library only, in the syntax of very old Pythons (no f-strings, no annotations): they have to get as far as the
sentence that asks for a newer one. pip installs everything, at the versions of Resources/constraints.txt; its own
settings (indices, links, certificates) decide from where. uv reads none of them, so it is not used.
"""

import argparse
import errno
import glob
import hashlib
import itertools
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

if os.name == "nt":
    import msvcrt
else:
    import fcntl

ROOT = os.path.dirname(os.path.realpath(os.path.abspath(__file__)))
CONSTRAINTS, PYPROJECT = os.path.join(ROOT, "Resources", "constraints.txt"), os.path.join(ROOT, "pyproject.toml")
OLDEST, NEWEST = (3, 10), (3, 13)
# Only a folder with the marker is ever changed. The stamp is written last and says what was installed: without it the
# environment is made again, with another one it is updated.
MARKER, STAMP, LOG = ".made-by-proxyprompt", ".proxyprompt-stamp", "install.log"
# The default index has only CUDA builds for Linux and only CPU builds for Windows; PyTorch's own has the others. Their
# versions (2.13.0+cpu) count as newer than the plain one, so pip takes them wherever it finds them.
TORCH_INDEX = {
    ("linux", "cpu"): "https://download.pytorch.org/whl/cpu",
    ("win32", "cuda"): "https://download.pytorch.org/whl/cu130",
}
COMMANDS = ("demo", "test", "lint", "install", "run")
FAST_TESTS = "not gpu and not network and not slicer and not slow"
PYTHON, NETWORK, DISK, INSTALL, FOLDER, INTERRUPTED = 3, 4, 5, 6, 7, 130
# Exit code, sentence, and what a program or the system says then; the first that fits decides.
REASONS = (
    (DISK, "The disk is full; free some space (3 GB are needed, 9 with CUDA) or choose another place with --venv",
     r"no space left|errno 28|not enough space|quota exceeded"),
    (INSTALL, "A downloaded file is not the tested one (another hash) and was not used", r"do not match the hashes"),
    (INSTALL, "This Python cannot make virtual environments; on Debian and Ubuntu run `sudo apt install "
     "python%d.%d-venv`, elsewhere install one from python.org" % sys.version_info[:2],
     r"no module named '?(venv|ensurepip)|ensurepip is not"),
    (INSTALL, "A package could not be built", r"subprocess-exited-with-error|failed to build"),
    (FOLDER, "A folder is not writable; copy the project to one of your own or choose another place with --venv",
     r"errno 13|errno 30|winerror 5\b|read-only file system"),
    # The public index has every pin for every system that PyTorch supports; another index may lack some.
    (NETWORK, "The package index cannot be reached, or lacks what Python %s on %s needs; check the network, the proxy "
     "(HTTPS_PROXY) and certificates (PIP_CERT), and run it again" % (platform.python_version(), platform.platform()),
     r"name resolution|name or service not known|getaddrinfo|retrying \(|proxyerror|new ?connection|time(d |-)?out|"
     r"connection (refused|reset|aborted)|network is unreachable|max retries|certificate.verify.failed|incompleteread|"
     r"from versions:|resolutionimpossible|no matching distribution"),
)  # fmt: skip


class SetupError(Exception):
    """A failure with one sentence for the user and an exit code."""

    def __init__(self, code, sentence):
        super(SetupError, self).__init__(sentence)
        self.code = code


def check_python():
    """Refuse what PyTorch has no builds for: other versions, other implementations, 32 bits, no global lock."""
    found = (platform.python_implementation(), platform.python_version(), platform.machine())
    ordinary = found[0] == "CPython" and sys.maxsize > 2**32 and "t" not in getattr(sys, "abiflags", "")
    if not ordinary or not OLDEST <= sys.version_info[:2] <= NEWEST:
        text = "This is %s %s (%s); ProxyPromptSegment needs the ordinary 64-bit CPython, version %d.%d to %d.%d: run "
        text += "for example `python3.12 setup_env.py demo`, or get one from your system or python.org."
        raise SetupError(PYTHON, text % (found + OLDEST + NEWEST))


def failure(said, otherwise, log):
    """Turn what a program or the system said into an error; `otherwise` is the code where nothing fits."""
    fits = [(code, text) for code, text, pattern in REASONS if re.search(pattern, said.lower())]
    code, sentence = (fits + [(otherwise, "The set-up failed")])[0]
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    line = ([line for line in lines if line.lower().startswith("error")] or lines)[-1].rstrip(".")
    return SetupError(code, "%s: %s. The log: %s" % (sentence, line, log))


def say(text, end="\n"):
    """Write to the screen at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def cache_works(environ):
    """Whether pip's cache can be written: a home folder may be missing, or on a disk that is read-only."""
    home = os.path.join(os.path.expanduser("~"), "Library", "Caches") if sys.platform == "darwin" else (
        environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"))
    folder = environ.get("PIP_CACHE_DIR") or os.path.join(home, "pip")
    if os.name == "nt":
        return True
    while not os.path.exists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK | os.X_OK)


def clean_environ(**more):
    """Return the process's variables without those that would let in another Python's packages, or keep out bytecode.

    Packages are installed without bytecode; where none may be written, every start would compile them for seconds.
    """
    hidden = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PYTHONDONTWRITEBYTECODE")
    environ = {k: v for k, v in os.environ.items() if k not in hidden}
    if not cache_works(environ):  # pip notices the folders of other users, but none that cannot be written
        environ["PIP_NO_CACHE_DIR"] = "1"
    return dict(environ, PYTHONNOUSERSITE="1", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", **more)


def logged(title, command, log_file, **variables):
    """Run a program with its output in a log and one line on the screen; return its exit code and output."""
    start, said, terminal = time.time(), [], sys.stdout.isatty()
    say(title, "\r" if terminal else "")
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=ROOT, env=clean_environ(**variables), **pipes)
    try:
        with open(log_file, "ab") as log:
            log.write(("\n== %s\n" % " ".join(command)).encode("utf-8"))
            for line in iter(process.stdout.readline, b""):
                log.write(line)
                said.append(line.decode("utf-8", "replace"))
                if terminal:
                    say("\r\033[K" + (title + ": " + said[-1].strip())[: shutil.get_terminal_size().columns - 1], "")
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    say(("\r\033[K" + title if terminal else "") + (", failed" if code else ", done in %d s" % (time.time() - start)))
    return code, "".join(said)


def call(command, cwd, last=False):
    """Run a program on this screen and return its exit code; as the last one it takes this process's place."""
    if last and os.name != "nt":
        os.chdir(cwd)
        os.execve(command[0], command, clean_environ())
    process = subprocess.Popen(command, cwd=cwd, env=clean_environ())
    while True:
        try:
            code = process.wait()
            return INTERRUPTED if code == -signal.SIGINT else code
        except KeyboardInterrupt:
            continue  # Ctrl-C reaches the program as well, and it decides what it keeps.


def lock(file):
    """Wait until no other set-up holds an open file; the system releases it when its holder ends, however it ends."""
    for attempt in itertools.count():
        try:
            if os.name == "nt":
                return msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return None  # a file system without locks
        if attempt == 0:
            say("Another set-up is at work here; waiting for it.")
        time.sleep(0.5)


def nvidia_driver():
    """Whether an NVIDIA driver answers on this machine."""
    try:
        return subprocess.call(["nvidia-smi", "-L"], stdout=subprocess.DEVNULL, timeout=20) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Environment(object):
    """The virtual environment: its state, and the steps that make it."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.log = self.path(LOG)
        self.python = self.path("Scripts", "python.exe") if os.name == "nt" else self.path("bin", "python")

    def path(self, *parts):
        """Return a path in it."""
        return os.path.join(self.folder, *parts)

    def write(self, name, text):
        """Write a small file in one piece; return its path."""
        with open(self.path(name + ".new"), "w") as file:
            file.write(text)
        os.replace(self.path(name + ".new"), self.path(name))
        return self.path(name)

    def built(self):
        """Return the stamp's two words: PyTorch's build, and a hash of what was installed; empty without a stamp."""
        try:
            with open(self.path(STAMP)) as file:
                return file.read().split()
        except (OSError, ValueError):
            return []

    def content(self):
        """Return a hash of everything that decides what is installed, except PyTorch's build."""
        # An environment holds its own place and the project's as absolute paths, so a moved one is not up to date.
        digest = hashlib.sha256(repr((sys.version_info[:2], os.path.realpath(self.folder), ROOT)).encode("utf-8"))
        with open(CONSTRAINTS, "rb") as pins, open(PYPROJECT, "rb") as project:
            digest.update(pins.read() + project.read().split(b"[tool.ruff]")[0])  # tools' settings install nothing
        return digest.hexdigest()

    def works(self):
        """Whether its Python is of this version and starts, with pip and PyTorch."""
        code = "import sys, importlib.util as u; sys.exit(sys.version_info[:2] != %r or not all(map(u.find_spec, %r)))"
        command = [self.python, "-I", "-c", code % (sys.version_info[:2], ("pip", "torch"))]
        try:
            return subprocess.call(command, stderr=subprocess.DEVNULL) == 0
        except OSError:
            return False

    def ready(self, build):
        """Whether everything is there; "auto" accepts whichever build of PyTorch that is."""
        accepted = ("cpu", "cuda") if build == "auto" else (build,)
        return self.built() in [[name, self.content()] for name in accepted] and self.works()

    def set_up(self, build):
        """Make it ready; do nearly nothing where it is."""
        if self.ready(build):
            return
        empty = not os.path.lexists(self.folder) or os.path.isdir(self.folder) and not os.listdir(self.folder)
        if not empty and not os.path.exists(self.path(MARKER)):
            text = "%s was not made by this program, so it is left alone; move it away, or choose another with --venv."
            raise SetupError(FOLDER, text % self.folder)
        if not os.path.isdir(self.folder):
            os.makedirs(self.folder)
        with open(self.folder + ".lock", "a") as file:
            lock(file)
            if self.ready(build):
                return
            say("Setting up %s (the first time takes minutes, as long as the downloads do)" % self.folder)
            if build == "auto":
                build = "cuda" if nvidia_driver() else "cpu"
            if self.built()[:1] == [build] and self.works():
                os.remove(self.path(STAMP))
            else:
                self.make()
            self.fill(build)
            self.write(STAMP, "%s %s" % (build, self.content()))

    def make(self):
        """Empty the folder and put a Python with pip into it."""
        self.write(MARKER, "setup_env.py of ProxyPromptSegment made this folder and may empty it.\n")
        for name in set(os.listdir(self.folder)) - {MARKER}:  # the folder may be a link to a larger disk, so it stays
            path = self.path(name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
        # The interpreter behind the running one, which may be the very environment that is made again.
        base = getattr(sys, "_base_executable", None) or sys.executable
        self.step("environment of Python " + platform.python_version(), [base, "-I", "-m", "venv", self.folder])

    def step(self, title, command, **variables):
        """Run one step; return its output, or raise a SetupError that says why it failed."""
        code, said = logged(title, command, self.log, **variables)
        if code:
            killed = "\nerror: killed (signal %d), perhaps for lack of memory" % -code if code < 0 else ""
            raise failure(said + killed, INSTALL, self.log)
        return said

    def install(self, title, *words, **variables):
        """Install something with pip; return what pip said."""
        if os.name != "nt":
            variables["TMPDIR"] = self.folder  # /tmp is often small, and wheels of gigabytes go through it
        # Without bytecode: Python makes it where it is needed, and most of these files are never imported.
        pip = [self.python, "-I", "-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar", "off"]
        return self.step(title, pip + ["-c", CONSTRAINTS] + list(words), **variables)

    def pin_with_hash(self, name):
        """Write a requirements file for a package whose pin has the tested file's hash beside it; return its path."""
        with open(CONSTRAINTS) as pins:
            pin = next(line for line in pins if line.startswith(name + "=="))
        return self.write(name + ".txt", pin.replace("# --hash", "--hash"))

    def fill(self, build):
        """Install everything, PyTorch first, and check that it can be imported."""
        self.install("pip, setuptools, wheel", "pip", "setuptools", "wheel")
        index = TORCH_INDEX.get((sys.platform, build))
        source = ["--extra-index-url", index, "--retries", "2"] if index else []
        # Without dependencies: only these two may come from PyTorch's index.
        said = self.install("PyTorch for %s" % build.upper(), "--no-deps", "torch", "torchvision", *source)
        if index and build == "cpu" and "+cpu" not in said:
            say("Note: no build of PyTorch without CUDA can be reached (%s), so 3 GB more are downloaded." % index)
        self.install("ProxyPromptSegment and what it needs", "--no-build-isolation", "-e", ROOT + "[test]")
        # With isolation its build would fetch another torch; with CUDA it would look for a compiler.
        words = ["--no-deps", "--no-build-isolation", "-r", self.pin_with_hash("sam2")]
        self.install("SAM 2", *words, SAM2_BUILD_CUDA="0")
        code = "import torch, scipy.ndimage, SimpleITK, slicerio; print('cuda', torch.cuda.is_available())"
        if "cuda False" in self.step("check", [self.python, "-I", "-c", code]) and build == "cuda":
            say("Note: PyTorch cannot use the graphics card (an old driver?), so the processor does the work.")

    def fetch_for_tests(self):
        """Fetch what only some tests need; where it cannot be had, they are skipped and say so."""
        wanted = {}
        if not glob.glob(self.path("cache", "mamba_ssm-*")):  # read, never installed
            words = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", self.path("cache"), "-r"]
            wanted["source of mamba-ssm"] = ["download"] + words + [self.pin_with_hash("mamba-ssm")]
        if sys.platform == "linux" and not glob.glob(self.path("lib", "*", "site-packages", "slicer_core-*")):
            words = ["install", "--no-compile", "-c", CONSTRAINTS, "slicer-core", "PySide6-Essentials"]
            wanted["libraries of Slicer"] = words
        for title, words in wanted.items():
            command = [self.python, "-I", "-m", "pip"] + words
            if logged(title, command, self.log, MAMBA_SKIP_CUDA_BUILD="TRUE", PIP_RETRIES="1")[0]:
                say("The tests that need the %s are skipped." % title)


def parse(arguments):
    """Read the command line; return the options and the words for the program or for pytest."""
    parser = argparse.ArgumentParser(
        description="Set up ProxyPromptSegment in .venv and run it. Research use only.",
        epilog="What follows `run` or `--` is passed to the program, what is unknown after `test` to pytest: "
        "`setup_env.py run -- segment --help`, `setup_env.py test -k geometry`; exit codes: 2 options, 3 Python, "
        "4 network, 5 disk, 6 installation, 7 folder, 130 interrupted, or the program's own.",
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=COMMANDS, help="what to do once it is set up")
    text = "build of PyTorch (auto: CUDA where an NVIDIA driver answers)"
    parser.add_argument("--torch", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    parser.add_argument("--venv", default=os.path.join(ROOT, ".venv"), help="folder of the environment (.venv)")
    cut = 1 if arguments[:1] == ["run"] else (arguments + ["--"]).index("--")
    options, more = parser.parse_known_args(arguments[:cut])
    rest = arguments[cut:][1:] if arguments[cut : cut + 1] == ["--"] else arguments[cut:]
    if more and options.command != "test" or rest and options.command in ("install", "lint"):
        parser.error("unknown: %s; put -- before words for the program" % " ".join(more + rest))
    return options, more + rest


def run(command, rest, environment):
    """Run what was asked for; return the exit code."""
    python, code = [environment.python, "-m"], 0
    if command == "demo":
        return call(python + ["ProxyPromptSegmentLib", "demo", "--output", "demo"] + rest, ROOT, last=True)
    if command == "run":
        return call(python + ["ProxyPromptSegmentLib"] + rest, os.getcwd(), last=True)
    if command in ("lint", "test"):
        for words in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
            code = call(python + words, ROOT) or code
    if command == "test":
        environment.fetch_for_tests()
        code = call(python + ["pytest", "Testing", "-m", FAST_TESTS] + rest, ROOT) or code
    return code


def main(arguments):
    """Run one command; return the exit code."""
    try:
        check_python()
        options, rest = parse(arguments)
        environment = Environment(options.venv)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end takes the same way as Ctrl-C
        try:
            environment.set_up(options.torch)
        except OSError as error:
            raise failure(str(error), FOLDER, environment.log)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return run(options.command, rest, environment)
    except SetupError as error:
        sys.stderr.write("%s\n" % error)
        return error.code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; run it again to resume.\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
