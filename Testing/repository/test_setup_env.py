"""The set-up: what it does to a folder, what it says, what it returns. A stand-in runs its programs."""

from __future__ import annotations

import ast
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "setup_env.py"
posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in makes an environment of the POSIX kind")


def load():
    spec = importlib.util.spec_from_file_location("setup_env_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load()


class StandInShell:
    """Runs nothing; leaves in the environment what a program would, or fails as told.

    Attributes:
        steps: Titles of the set-up's steps.
        commands: Their commands, in the same order.
        called: Programs that ran after the set-up, each with its folder.
    """

    def __init__(self, torch="2.13.0+cpu", fail_at="", says="", code=1, error=None, exits=None):
        self.torch, self.fail_at, self.says, self.code, self.error = torch, fail_at, says, code, error
        self.exits = exits or {}
        self.steps, self.commands, self.environs, self.called = [], [], [], []

    def logged(self, title, command, log, environ, lock=None):
        self.steps.append(title.split("] ")[-1])
        self.commands.append(command)
        self.environs.append(environ)
        if self.fail_at and self.fail_at in title:
            if self.error:
                raise self.error
            log.write(self.says)
            return self.code
        if "venv" in command:
            folder = Path(command[-1])
            packages = folder / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
            (folder / "bin").mkdir()
            (folder / "bin" / "python").symlink_to(sys.executable)
            (packages / "pip").mkdir(parents=True)
            (packages / "pip" / "__init__.py").touch()
        elif command[-1] == "torch" or "torch" in command and "--no-deps" in command:
            packages = next((Path(command[0]).parent.parent / "lib").glob("python*/site-packages"))
            (packages / "torch").mkdir(exist_ok=True)
            (packages / "torch" / "version.py").touch()
            made = packages / f"torch-{self.torch}.dist-info"
            made.mkdir(exist_ok=True)
            (made / "METADATA").write_text("" if "+cpu" in self.torch else "Requires-Dist: nvidia-cudnn-cu13==9\n")
        return 0

    def call(self, command, cwd):
        self.called.append((command[1:], cwd))
        return next((code for word, code in self.exits.items() if word in command), 0)

    become = call


@pytest.fixture
def venv(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_env, "nvidia_driver", lambda: False)
    return tmp_path / ".venv"


def install(venv, *options, shell=None):
    shell = shell or StandInShell()
    return setup_env.main(["install", "--venv", str(venv), *options], shell), shell


def made_anew(shell):
    return any("venv" in command for command in shell.commands)


# --- the order of things


@posix
def test_the_first_run_installs_torch_before_what_needs_it_and_ends_with_the_stamp(venv):
    code, shell = install(venv)
    assert code == 0
    names = ["environment", "pip", "PyTorch", "torchvision", "what", "SAM", "ProxyPromptSegment", "a look"]
    assert [step.split()[0].strip(",") for step in shell.steps] == [name.split()[0] for name in names]
    assert (venv / setup_env.STAMP).is_file() and not (venv / setup_env.BUSY).exists()


@posix
def test_the_second_run_starts_no_program(venv):
    install(venv)
    code, shell = install(venv)
    assert (code, shell.commands) == (0, [])


@posix
def test_sam2_is_pinned_by_hash_and_built_without_isolation_and_without_cuda(venv):
    _, shell = install(venv)
    at = shell.steps.index("SAM 2")
    assert {"--no-deps", "--no-build-isolation", "-r"} <= set(shell.commands[at])
    assert shell.environs[at]["SAM2_BUILD_CUDA"] == "0"
    assert "--hash=sha256:7e0ea252d43c10d8" in (venv / "sam2.txt").read_text()


@posix
@pytest.mark.parametrize(
    ("system", "build", "index"),
    [("linux", "cpu", "whl/cpu"), ("linux", "cuda", None), ("darwin", "cpu", None), ("win32", "cuda", "whl/cu130")],
)
def test_only_torch_and_torchvision_may_come_from_pytorchs_own_index(venv, monkeypatch, system, build, index):
    shell = StandInShell("2.13.0+cpu" if build == "cpu" else "2.13.0")
    monkeypatch.setattr(setup_env, "sys", SimpleNamespace(**{**vars(sys), "platform": system}))
    install(venv, "--torch", build, shell=shell)
    asked = [
        step.split()[0] for step, words in zip(shell.steps, shell.commands, strict=True) if "whl/" in " ".join(words)
    ]
    assert asked == (["PyTorch", "torchvision"] if index else [])
    assert all("--no-deps" in words for words in shell.commands if "--extra-index-url" in words)
    assert not index or any(words[-3].endswith(index) for words in shell.commands if "--extra-index-url" in words)


@posix
def test_a_cuda_build_on_a_machine_without_a_card_is_announced_before_its_libraries(venv, capsys):
    code, shell = install(venv, shell=StandInShell("2.13.0"))
    assert code == 0 and "the one with CUDA is installed" in capsys.readouterr().out
    install(venv, "--reinstall")
    assert "CUDA is installed" not in capsys.readouterr().out


@posix
def test_a_named_build_replaces_another_and_auto_takes_what_is_there(venv, monkeypatch):
    install(venv)
    monkeypatch.setattr(setup_env, "nvidia_driver", lambda: True)
    assert not install(venv)[1].commands
    assert made_anew(install(venv, "--torch", "cuda", shell=StandInShell("2.13.0"))[1])


# --- repair


def leave_unfinished(venv):
    (venv / setup_env.STAMP).unlink()
    (venv / setup_env.BUSY).touch()


def lose_pip(venv):
    shutil.rmtree(next(venv.glob("lib/python*/site-packages/pip")))


def break_python(venv):
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python3")


def damage_python(venv):
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").write_text("#!/bin/sh\nexit 127\n")
    (venv / "bin" / "python").chmod(0o755)


def lose_everything_but_the_marker(venv):
    for path in venv.iterdir():
        if path.name != setup_env.MARKER:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@posix
@pytest.mark.parametrize(
    "harm", [leave_unfinished, lose_pip, break_python, damage_python, lose_everything_but_the_marker]
)
def test_a_broken_environment_is_made_again(venv, harm):
    install(venv)
    (venv / "left-over").mkdir()
    harm(venv)
    code, shell = install(venv)
    assert code == 0 and made_anew(shell) and not (venv / "left-over").exists()
    assert not install(venv)[1].commands


@posix
@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"content": "0"}'])
def test_a_strange_stamp_updates_a_whole_environment_in_place(venv, stamp):
    install(venv)
    (venv / setup_env.STAMP).write_text(stamp)
    code, shell = install(venv)
    assert code == 0 and shell.commands and not made_anew(shell)


@posix
def test_new_pins_update_in_place_and_settings_of_tools_change_nothing(venv, tmp_path, monkeypatch):
    install(venv)
    for name in ("CONSTRAINTS", "PYPROJECT"):
        copy = tmp_path / name
        copy.write_bytes(Path(getattr(setup_env, name)).read_bytes())
        monkeypatch.setattr(setup_env, name, str(copy))
    with open(tmp_path / "PYPROJECT", "a") as file:
        file.write("# another line\n")
    assert not install(venv)[1].commands
    with open(tmp_path / "CONSTRAINTS", "a") as file:
        file.write("another==1.0\n")
    _, shell = install(venv)
    assert shell.commands and not made_anew(shell)


@posix
def test_a_moved_environment_is_not_taken_for_ready(venv, tmp_path):
    install(venv)
    venv.rename(tmp_path / "moved")
    assert install(tmp_path / "moved")[1].commands


@posix
def test_a_linked_folder_stays_a_link(venv, tmp_path):
    (tmp_path / "large disk").mkdir()
    venv.symlink_to(tmp_path / "large disk")
    install(venv)
    leave_unfinished(venv)
    assert install(venv)[0] == 0 and venv.is_symlink()


@pytest.mark.parametrize("content", ["notes.txt", "pyvenv.cfg"])
def test_a_folder_that_is_not_ours_is_left_alone(venv, content, capsys):
    venv.mkdir()
    (venv / content).write_text("precious")
    for options in ((), ("--reinstall",)):
        code, shell = install(venv, *options)
        assert (code, shell.commands) == (setup_env.FOLDER, [])
    assert (venv / content).read_text() == "precious" and "not made by this program" in capsys.readouterr().err


def test_a_file_in_the_environments_place_is_left_alone(venv):
    venv.write_text("precious")
    assert install(venv)[0] == setup_env.FOLDER and venv.read_text() == "precious"


# --- failures: one sentence each

UNREACHABLE = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'NameResolutionError(...)': /simple/torch/\nERROR: Could not find a version that satisfies the requirement "
    "torch (from versions: none)\nERROR: No matching distribution found for torch\n"
)


@pytest.mark.parametrize(
    ("says", "code", "word"),
    [
        (UNREACHABLE, "NETWORK", "cannot be reached"),
        ("urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "NETWORK", "cannot be reached"),
        ("SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed')", "NETWORK", "certificates"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "DISK",
            "GB are free",
        ),
        (UNREACHABLE + "OSError: [Errno 28] No space left on device", "DISK", "GB are free"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'", "FOLDER", "/x"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "INSTALL", "another hash"),
        ("ERROR: ResolutionImpossible: for help visit the documentation", "NETWORK", "or lacks what"),
        ("error: subprocess-exited-with-error\nERROR: Failed to build 'sam2'", "INSTALL", "Failed to build 'sam2'"),
        (
            "ERROR: Cannot install a and b because of conflicting versions\n\nmore words",
            "INSTALL",
            "Cannot install a and b",
        ),
        ("", "INSTALL", "said nothing"),
    ],
)
@posix
def test_what_pip_says_becomes_one_sentence_and_a_code(venv, capsys, says, code, word):
    returned, _ = install(venv, shell=StandInShell(fail_at="PyTorch", says=says))
    sentence = capsys.readouterr().err
    assert returned == getattr(setup_env, code) and word in sentence and len(sentence.splitlines()) == 1
    assert code == "DISK" or setup_env.LOG in sentence
    assert says in (venv / setup_env.LOG).read_text()
    assert not (venv / setup_env.STAMP).exists()


@posix
@pytest.mark.parametrize(("says", "anew"), [(UNREACHABLE, False), ("No space left on device", True)])
def test_after_a_network_failure_it_goes_on_and_after_a_full_disk_it_begins_again(venv, says, anew):
    install(venv, shell=StandInShell(fail_at="SAM", says=says))
    code, shell = install(venv)
    assert code == 0 and made_anew(shell) is anew


def test_a_real_pip_without_network_is_recognised(tmp_path):
    command = [
        sys.executable,
        "-I",
        "-m",
        "pip",
        "download",
        "--index-url",
        "http://127.0.0.1:9/simple",
        "--retries",
        "1",
    ]
    environ = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    done = subprocess.run([*command, "nothing"], capture_output=True, text=True, cwd=tmp_path, env=environ, timeout=120)
    assert done.returncode != 0
    assert setup_env.classify(done.stdout + done.stderr, str(tmp_path)).code == setup_env.NETWORK


def test_too_little_space_is_refused_before_anything_is_fetched(venv, monkeypatch, capsys):
    monkeypatch.setattr(setup_env.shutil, "disk_usage", lambda _: SimpleNamespace(free=1.2e9))
    code, shell = install(venv)
    assert (code, shell.commands) == (setup_env.DISK, []) and "Only 1.2 GB are free" in capsys.readouterr().err


@posix
@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "DISK"), (errno.EROFS, "FOLDER"), (errno.EACCES, "FOLDER")]
)
def test_a_folder_that_cannot_be_written_and_a_disk_that_fills_up_are_told_apart(venv, capsys, number, code):
    error = OSError(number, os.strerror(number))
    returned, _ = install(venv, shell=StandInShell(fail_at="PyTorch", error=error))
    assert returned == getattr(setup_env, code) and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that nobody may write into")
def test_a_read_only_place_is_one_sentence(capsys):
    assert install(Path("/proc/venv"))[0] == setup_env.FOLDER
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_what_to_install(venv, monkeypatch, capsys, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    code, shell = install(venv)
    assert (code, shell.commands) == (setup_env.INSTALL, [])
    assert "apt install python{}.{}-venv".format(*sys.version_info[:2]) in capsys.readouterr().err


@posix
def test_a_killed_step_is_named(venv, capsys):
    code, _ = install(venv, shell=StandInShell(fail_at="SAM", code=-9))
    assert code == setup_env.INSTALL and "SAM 2 was killed (signal 9)" in capsys.readouterr().err
    assert made_anew(install(venv)[1])


# --- old Pythons


def test_an_old_python_can_read_the_file():
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 4))


def old_pythons():
    names = ("python2.7", "python3.6", "python3.7", "python3.8", "python3.9", "python3.14")
    # pyenv's shims answer to every version and then refuse; its real Pythons lie beside them.
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if not folder.endswith("shims")]
    folders += map(str, Path.home().glob(".pyenv/versions/*/bin"))
    return list(filter(None, (shutil.which(name, path=os.pathsep.join(folders)) for name in names)))


@pytest.mark.skipif(not old_pythons(), reason="this machine has no Python outside of the supported range")
def test_a_python_outside_of_the_range_gets_one_sentence():
    for python in old_pythons():
        done = subprocess.run([python, str(SCRIPT), "demo"], capture_output=True, text=True, timeout=60)
        assert done.returncode == setup_env.PYTHON and done.stdout == ""
        assert done.stderr.count("\n") == 1 and "needs Python 3.10, 3.11, 3.12 or 3.13" in done.stderr


def test_the_range_is_the_projects(monkeypatch, capsys):
    assert 'requires-python = ">=3.10,<3.14"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert (setup_env.OLDEST, setup_env.NEWEST) == ((3, 10), (3, 13))
    monkeypatch.setattr(setup_env, "NEWEST", (3, 9))
    assert setup_env.main(["demo"], StandInShell()) == setup_env.PYTHON and "This is" in capsys.readouterr().err


# --- two at a time, and stopping


@posix
def test_a_second_set_up_waits_for_the_first_and_then_finds_its_work_done(venv, capsys):
    environment = setup_env.Environment(str(venv))
    shells = [StandInShell(), StandInShell()]
    slow = shells[0].logged

    def logged(*words):
        time.sleep(0.1)
        return slow(*words)

    shells[0].logged = logged
    first = threading.Thread(target=setup_env.set_up, args=(environment, "cpu", False, shells[0]))
    first.start()
    while not shells[0].steps:
        time.sleep(0.01)
    setup_env.set_up(environment, "cpu", False, shells[1])
    first.join()
    assert len(shells[0].commands) == setup_env.STEPS and not shells[1].commands
    assert "Another set-up is at work" in capsys.readouterr().out


@posix
def test_an_interrupt_ends_with_130_and_the_next_run_repairs(venv, capsys):
    code, _ = install(venv, shell=StandInShell(fail_at="PyTorch", error=KeyboardInterrupt()))
    assert code == 130 and "run it again" in capsys.readouterr().err
    code, shell = install(venv)
    assert code == 0 and made_anew(shell)


@pytest.fixture
def interruptible():
    """Interrupts arrive, even in a background job, which a shell starts with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@posix
def test_an_interrupt_ends_the_program_of_the_step(tmp_path, interruptible):
    log_file, start = tmp_path / "log", time.monotonic()
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with open(log_file, "w") as log, open(tmp_path / "lock", "w") as lock, pytest.raises(KeyboardInterrupt):
        setup_env.Shell().logged("title", [sys.executable, "-c", code], log, dict(os.environ), lock)
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(log_file.read_text()), 0)


@posix
def test_a_step_is_one_line_and_its_output_goes_to_the_log(tmp_path, capsys):
    shell = setup_env.Shell()
    with open(tmp_path / "log", "w") as log, open(tmp_path / "lock", "w") as lock:
        assert shell.logged("[1/8] a", [sys.executable, "-c", "print('words')"], log, dict(os.environ), lock) == 0
        assert shell.logged("[2/8] b", [sys.executable, "-c", "exit(3)"], log, dict(os.environ), lock) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["[1/8] a", "[2/8] b"] and "failed" in lines[1]
    assert (tmp_path / "log").read_text() == "words\n"


# --- the commands


@posix
def test_demo_and_run_hand_over_to_the_program(venv):
    shell = StandInShell(exits={"ProxyPromptSegmentLib": 5})
    assert setup_env.main(["demo", "--venv", str(venv)], shell) == 5
    assert setup_env.main(["--venv", str(venv), "run", "--", "segment", "--target", "x y.nrrd"], shell) == 5
    module = ["-m", "ProxyPromptSegmentLib"]
    assert shell.called[0] == ([*module, "demo", "--output", "demo"], str(ROOT))
    assert shell.called[1] == ([*module, "segment", "--target", "x y.nrrd"], os.getcwd())


@posix
def test_test_runs_the_linters_and_then_the_tests_whatever_the_linters_say(venv):
    shell = StandInShell(exits={"ruff": 1})
    assert setup_env.main(["test", "--venv", str(venv), "-k", "geometry"], shell) == 1
    assert [words[1] for words, _ in shell.called] == ["ruff", "ruff", "mypy", "pytest"]
    assert shell.called[-1][0][-2:] == ["-k", "geometry"] and setup_env.FAST_TESTS in shell.called[-1][0]
    assert setup_env.main(["test", "--venv", str(venv)], StandInShell()) == 0


@posix
def test_the_source_to_compare_with_is_fetched_by_the_shell_pinned_and_only_once(venv, monkeypatch):
    install(venv)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    shell = StandInShell()
    assert setup_env.main(["test", "--venv", str(venv)], shell) == 0
    assert shell.steps[0] == "source of mamba-ssm, to compare with"
    command, environ = shell.commands[0], shell.environs[0]
    assert command[:5] == [str(venv / "bin" / "python"), "-I", "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--no-build-isolation"} <= set(command)
    assert Path(command[-1]).read_text() == setup_env.MAMBA_SOURCE
    assert environ["PIP_RETRIES"] == "1" and "PYTHONPATH" not in environ
    assert "== source of mamba-ssm" in (venv / setup_env.LOG).read_text()
    (venv / "cache" / "mamba_ssm-2.3.2.post1.tar.gz").touch()
    shell = StandInShell()
    assert setup_env.main(["test", "--venv", str(venv)], shell) == 0
    assert "source of mamba-ssm, to compare with" not in shell.steps


@posix
@pytest.mark.parametrize(
    ("system", "machine", "wanted"),
    [("linux", "x86_64", True), ("linux", "aarch64", False), ("darwin", "arm64", False)],
)
def test_slicers_libraries_are_installed_for_the_tests_where_there_are_builds_and_only_once(
    venv, monkeypatch, system, machine, wanted
):
    title = "Slicer's libraries, for the module's tests"
    install(venv)
    monkeypatch.setattr(setup_env.sys, "platform", system)
    monkeypatch.setattr(setup_env.platform, "machine", lambda: machine)
    environment, shell = setup_env.Environment(str(venv)), StandInShell()
    setup_env.install_mrml(environment, shell)
    assert (title in shell.steps) == wanted
    if wanted:
        assert shell.commands[-1][-2:] == setup_env.MRML and setup_env.CONSTRAINTS in shell.commands[-1]
        for name in ("slicer_core-5.13.31053.0.dist-info", "pyside6_essentials-6.12.0.dist-info"):
            (Path(environment.packages) / name).mkdir(parents=True)
        shell = StandInShell()
        setup_env.install_mrml(environment, shell)
        assert not shell.steps


@posix
def test_without_slicers_libraries_the_tests_run_all_the_same(venv, capsys, monkeypatch):
    install(venv)
    monkeypatch.setattr(setup_env.platform, "machine", lambda: "x86_64")
    shell = StandInShell(fail_at="Slicer", code=1, says=UNREACHABLE)
    assert setup_env.main(["test", "--venv", str(venv)], shell) == 0
    assert "the tests of the module on real scenes are skipped" in capsys.readouterr().out
    assert shell.called[-1][0][1] == "pytest"


@posix
@pytest.mark.parametrize("failure", [{"code": 1, "says": UNREACHABLE}, {"error": OSError(errno.ENOSPC, "full")}])
def test_without_that_source_the_tests_run_all_the_same(venv, capsys, failure):
    install(venv)
    shell = StandInShell(fail_at="mamba-ssm", **failure)
    assert setup_env.main(["test", "--venv", str(venv)], shell) == 0
    assert "the comparison with it is skipped" in capsys.readouterr().out
    assert shell.called[-1][0][1] == "pytest"


@posix
def test_a_program_may_be_logged_without_a_lock(tmp_path):
    with open(tmp_path / "log", "w") as log:
        words = [sys.executable, "-c", "print('words')"]
        assert setup_env.Shell(quiet=True).logged("title", words, log, dict(os.environ)) == 0
    assert (tmp_path / "log").read_text() == "words\n"


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        ("demo", "demo", []),
        ("demo --torch cpu --quiet", "demo", []),
        ("demo -- --json", "demo", ["--json"]),
        ("test -k run -x", "test", ["-k", "run", "-x"]),
        ("test -- --quiet", "test", ["--quiet"]),
        ("run segment --quiet -- x", "run", ["segment", "--quiet", "--", "x"]),
        ("run -- segment", "run", ["segment"]),
        ("run", "run", []),
    ],
)
def test_words_are_handed_on_as_documented(words, command, rest):
    options, handed = setup_env.parse(words.split())
    assert (options.command, handed) == (command, rest)


@pytest.mark.parametrize("words", ["", "dance", "demo --fast", "install -- x", "install --torch metal", "demo extra"])
def test_options_that_do_not_fit_end_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        setup_env.main(words.split(), StandInShell())
    assert stop.value.code == 2 and "usage" in capsys.readouterr().err


def test_a_child_sees_no_packages_of_another_python(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET"):
        monkeypatch.setenv(name, "elsewhere")
    assert not {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET"} & set(setup_env.clean_environ())


# --- the pins


def pins(python, system="linux"):
    from packaging.requirements import Requirement

    marks = {"python_version": python, "sys_platform": system}
    lines = (ROOT / "Resources" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [pin for pin in found if pin.marker is None or pin.marker.evaluate(marks)]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_everything_that_is_needed_has_one_exact_pin_within_its_range(python):
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    tomllib = pytest.importorskip("tomllib", reason="comes with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    exact = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins(python)}
    assert len(exact) == len(pins(python))
    needed = project["dependencies"] + [r for more in project["optional-dependencies"].values() for r in more]
    for requirement in map(Requirement, [*needed, setup_env.SAM2.split()[0]]):
        assert exact[canonicalize_name(requirement.name)] in requirement.specifier, requirement.name


def test_the_second_readme_command_is_what_ci_runs():
    script = ROOT / ".ci" / "run"
    assert "python3 setup_env.py test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert script.read_text(encoding="utf-8").rstrip().endswith("exec python3 setup_env.py test")
    assert os.name == "nt" or os.access(script, os.X_OK)


@pytest.mark.slow
@pytest.mark.network
def test_a_real_set_up_works_and_the_second_run_is_quick(tmp_path):
    command = [sys.executable, str(SCRIPT), "install", "--venv", str(tmp_path / ".venv")]
    subprocess.run(command, check=True, timeout=3000)
    start = time.monotonic()
    subprocess.run(command, check=True, timeout=60)
    assert time.monotonic() - start < 1
    assert "content" in json.loads((tmp_path / ".venv" / setup_env.STAMP).read_text())
