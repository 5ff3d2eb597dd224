"""The set-up: what it does to a folder, what it says, what it returns. Stand-ins take the place of its programs."""

from __future__ import annotations

import ast
import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "setup_env.py"
posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in makes an environment of the POSIX kind")


def load():
    spec = importlib.util.spec_from_file_location("setup_env_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load()


class Programs:
    """Stand-ins for `logged` and `call`: they leave in the environment what a program would, or fail as asked.

    Attributes:
        titles: Of the steps that ran.
        commands: Their commands, in the same order.
        environs: Their additional variables.
        called: Programs that ran after the set-up, each with its folder.
    """

    def __init__(self, monkeypatch):
        self.titles, self.commands, self.environs, self.called = [], [], [], []
        self.fail_at, self.said, self.code, self.error, self.exits = "", "torch-2.13.0+cpu", 1, None, {}
        monkeypatch.setattr(setup_env, "logged", self.logged)
        monkeypatch.setattr(setup_env, "call", self.call)
        monkeypatch.setattr(setup_env, "nvidia_driver", lambda: False)
        monkeypatch.setattr(setup_env.signal, "signal", lambda *_: None)

    def logged(self, title, command, log_file, **variables):
        self.titles.append(title)
        self.commands.append(command)
        self.environs.append(variables)
        if self.fail_at and self.fail_at in title:
            if self.error:
                raise self.error
            return self.code, self.said
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir()
            python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')  # has pip and torch, so it works
            python.chmod(0o755)
        return 0, self.said

    def call(self, command, cwd, last=False):
        self.called.append((command[1:], cwd))
        return next((code for word, code in self.exits.items() if word in command), 0)

    def made_again(self):
        return any("venv" in command for command in self.commands)

    def forget(self):
        self.titles, self.commands, self.environs, self.called = [], [], [], []
        self.fail_at, self.error = "", None


@pytest.fixture
def programs(monkeypatch):
    return Programs(monkeypatch)


@pytest.fixture
def venv(tmp_path):
    return tmp_path / "new folder" / ".venv"


def install(venv, *options):
    return setup_env.main(["install", "--venv", str(venv), *options])


# --- the order of things


@posix
def test_torch_is_installed_before_what_needs_it_and_the_second_run_starts_nothing(venv, programs):
    assert install(venv) == 0
    assert [title.split()[0].strip(",") for title in programs.titles] == (
        ["environment", "pip", "PyTorch", "ProxyPromptSegment", "SAM", "check"]
    )
    assert all(setup_env.CONSTRAINTS in words for words in programs.commands if "install" in words)
    programs.forget()
    assert install(venv) == 0 and not programs.commands


@posix
def test_sam2_is_pinned_by_hash_and_built_without_isolation_and_without_cuda(venv, programs):
    install(venv)
    at = programs.titles.index("SAM 2")
    assert {"--no-deps", "--no-build-isolation", "-r"} <= set(programs.commands[at])
    assert programs.environs[at]["SAM2_BUILD_CUDA"] == "0"
    pin = Path(programs.commands[at][-1]).read_text(encoding="utf-8")
    assert pin.startswith("sam2==") and "#" not in pin and " --hash=sha256:" in pin


@posix
@pytest.mark.parametrize(
    ("system", "build", "index"),
    [("linux", "cpu", "whl/cpu"), ("linux", "cuda", None), ("darwin", "cpu", None), ("win32", "cuda", "whl/cu130")],
)
def test_only_torch_and_torchvision_may_come_from_pytorchs_own_index(venv, programs, monkeypatch, system, build, index):
    monkeypatch.setattr(setup_env, "sys", SimpleNamespace(**{**vars(sys), "platform": system}))
    install(venv, "--torch", build)
    asked = [words for words in programs.commands if "--extra-index-url" in words]
    assert len(asked) == bool(index)
    assert all("--no-deps" in words and {"torch", "torchvision"} < set(words) for words in asked)
    assert all(words[words.index("--extra-index-url") + 1].endswith(index) for words in asked)


@posix
def test_a_cuda_build_for_a_machine_without_a_card_is_announced(venv, programs, capsys):
    programs.said = "torch-2.13.0"
    assert install(venv, "--torch", "cpu") == 0
    assert ("without CUDA can be reached" in capsys.readouterr().out) == (sys.platform == "linux")


@posix
def test_a_named_build_replaces_another_and_auto_accepts_what_is_there(venv, programs, monkeypatch):
    install(venv)
    programs.forget()
    monkeypatch.setattr(setup_env, "nvidia_driver", lambda: True)
    assert install(venv) == 0 and not programs.commands
    assert install(venv, "--torch", "cuda") == 0 and programs.made_again()


# --- repair


def leave_unfinished(venv):
    (venv / setup_env.STAMP).unlink()


def break_python(venv):
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python3")


def lose_pip_and_torch(venv):
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (venv / "bin" / "python").chmod(0o755)


def lose_everything_but_the_marker(venv):
    for path in venv.iterdir():
        if path.name != setup_env.MARKER:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@posix
@pytest.mark.parametrize("harm", [leave_unfinished, break_python, lose_pip_and_torch, lose_everything_but_the_marker])
def test_a_broken_environment_is_made_again(venv, programs, harm):
    install(venv)
    (venv / "left-over").mkdir()
    harm(venv)
    programs.forget()
    assert install(venv) == 0 and programs.made_again() and not (venv / "left-over").exists()
    programs.forget()
    assert install(venv) == 0 and not programs.commands


@posix
def test_new_pins_update_in_place_and_settings_of_tools_change_nothing(venv, programs, tmp_path, monkeypatch):
    install(venv)
    programs.forget()
    for name in ("CONSTRAINTS", "PYPROJECT"):
        copy = tmp_path / name
        copy.write_bytes(Path(getattr(setup_env, name)).read_bytes())
        monkeypatch.setattr(setup_env, name, str(copy))
    with open(tmp_path / "PYPROJECT", "a") as file:
        file.write("# another line\n")
    assert install(venv) == 0 and not programs.commands
    with open(tmp_path / "CONSTRAINTS", "a") as file:
        file.write("another==1.0\n")
    assert install(venv) == 0 and programs.commands and not programs.made_again()


@posix
def test_a_moved_environment_is_not_taken_for_ready(venv, programs):
    install(venv)
    programs.forget()
    venv.rename(venv.parent / "moved")
    assert install(venv.parent / "moved") == 0 and programs.commands


@posix
def test_a_linked_folder_stays_a_link(venv, programs, tmp_path):
    (tmp_path / "large disk").mkdir()
    venv.parent.mkdir()
    venv.symlink_to(tmp_path / "large disk")
    install(venv)
    leave_unfinished(venv)
    assert install(venv) == 0 and venv.is_symlink()


@pytest.mark.parametrize("content", ["notes.txt", "pyvenv.cfg", ""])
def test_a_folder_or_file_that_is_not_ours_is_left_alone(venv, programs, content, capsys):
    precious = venv / content
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    assert install(venv) == setup_env.FOLDER and not programs.commands
    assert precious.read_text() == "precious" and "not made by this program" in capsys.readouterr().err


# --- failures: one sentence each

UNREACHABLE = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'NameResolutionError(...)': /simple/torch/\nERROR: Could not find a version that satisfies the requirement "
    "torch (from versions: none)\nERROR: No matching distribution found for torch\n"
)


@posix
@pytest.mark.parametrize(
    ("said", "code", "word"),
    [
        (UNREACHABLE, "NETWORK", "cannot be reached"),
        ("urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "NETWORK", "cannot be reached"),
        ("SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed')", "NETWORK", "certificates"),
        ("ERROR: ResolutionImpossible: for help visit the documentation", "NETWORK", "or lacks what"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "DISK", "is full"),
        (UNREACHABLE + "OSError: [Errno 28] No space left on device", "DISK", "is full"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'", "FOLDER", "/x"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "INSTALL", "another hash"),
        ("error: subprocess-exited-with-error\nERROR: Failed to build 'sam2'", "INSTALL", "Failed to build 'sam2'"),
        ("/usr/bin/python3: No module named venv", "INSTALL", "-venv`"),
        ("not created successfully because ensurepip is not\navailable", "INSTALL", "-venv`"),
        ("ERROR: Cannot install a and b because of conflicts\n\nmore words", "INSTALL", "Cannot install a and b"),
        ("", "INSTALL", "said nothing"),
    ],
)
def test_what_pip_says_becomes_one_sentence_and_an_exit_code(venv, programs, capsys, said, code, word):
    programs.fail_at, programs.said = "PyTorch", said
    assert install(venv) == getattr(setup_env, code)
    sentence = capsys.readouterr().err
    assert word in sentence and setup_env.LOG in sentence and len(sentence.splitlines()) == 1
    assert not (venv / setup_env.STAMP).exists()


def test_a_real_pip_without_network_is_recognised(tmp_path):
    command = [sys.executable, "-I", "-m", "pip", "download", "--index-url", "http://127.0.0.1:9/simple"]
    environ = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    words = [*command, "--retries", "1", "nothing"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environ, timeout=120)
    assert done.returncode != 0
    assert setup_env.failure(done.stdout + done.stderr, setup_env.INSTALL, "log").code == setup_env.NETWORK


@posix
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "DISK"), (errno.EROFS, "FOLDER"), (errno.EIO, "FOLDER")])
def test_errors_of_the_system_are_one_sentence_and_an_exit_code(venv, programs, capsys, number, code):
    programs.fail_at, programs.error = "PyTorch", OSError(number, os.strerror(number))
    assert install(venv) == getattr(setup_env, code) and len(capsys.readouterr().err.splitlines()) == 1


@posix
def test_a_killed_step_is_named_and_repaired(venv, programs, capsys):
    programs.fail_at, programs.code = "SAM", -9
    assert install(venv) == setup_env.INSTALL and "killed (signal 9)" in capsys.readouterr().err
    programs.forget()
    assert install(venv) == 0 and programs.made_again()


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
        assert done.stderr.count("\n") == 1 and "version 3.10 to 3.13" in done.stderr


def test_the_range_is_the_projects(monkeypatch, capsys):
    assert 'requires-python = ">=3.10,<3.14"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert (setup_env.OLDEST, setup_env.NEWEST) == ((3, 10), (3, 13))
    monkeypatch.setattr(setup_env, "NEWEST", (3, 9))
    assert setup_env.main(["demo"]) == setup_env.PYTHON and "This is" in capsys.readouterr().err


# --- two at a time, and stopping


@posix
def test_a_second_set_up_waits_for_the_first_and_then_finds_its_work_done(venv, programs, capsys, monkeypatch):
    environment = setup_env.Environment(str(venv))
    waits, begun = threading.Event(), threading.Event()
    fill = environment.fill

    def slowly(build):
        begun.set()
        assert waits.wait(60)
        fill(build)

    monkeypatch.setattr(environment, "fill", slowly)
    monkeypatch.setattr(setup_env.time, "sleep", lambda _: waits.set())  # the second one is waiting now
    first = threading.Thread(target=environment.set_up, args=("cpu",))
    first.start()
    assert begun.wait(60)
    setup_env.Environment(str(venv)).set_up("cpu")
    first.join()
    assert programs.titles.count("SAM 2") == 1 and "Another set-up is at work" in capsys.readouterr().out


@posix
def test_an_interrupt_ends_with_130_and_the_next_run_repairs(venv, programs, capsys):
    programs.fail_at, programs.error = "PyTorch", KeyboardInterrupt()
    assert install(venv) == 130 and "run it again" in capsys.readouterr().err
    programs.forget()
    assert install(venv) == 0 and programs.made_again()


@posix
def test_an_interrupt_ends_the_program_of_the_step(tmp_path, monkeypatch):
    def interrupt(text, end="\n"):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    monkeypatch.setattr(setup_env, "say", lambda text, end: interrupt(text) if ": " in text else None)
    with pytest.raises(KeyboardInterrupt):  # as the first line arrives
        setup_env.logged("title", [sys.executable, "-c", code], str(tmp_path / "log"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "log").read_text().split()[-1]), 0)


def test_a_step_is_one_line_and_its_output_goes_to_the_log(tmp_path, capsys):
    log = tmp_path / "log"
    assert setup_env.logged("a", [sys.executable, "-c", "print('words')"], str(log)) == (0, f"words{os.linesep}")
    assert setup_env.logged("b", [sys.executable, "-c", "exit(3)"], str(log)) == (3, "")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["a", "b"] and "failed" in lines[1]
    assert "words" in log.read_text().splitlines()


# --- the commands


@posix
def test_demo_and_run_pass_on_to_the_program(venv, programs):
    programs.exits = {"ProxyPromptSegmentLib": 5}
    assert setup_env.main(["demo", "--venv", str(venv)]) == 5
    assert setup_env.main(["--venv", str(venv), "run", "--", "segment", "--target", "x y.nrrd"]) == 5
    module = ["-m", "ProxyPromptSegmentLib"]
    assert programs.called[0] == ([*module, "demo", "--output", "demo"], str(ROOT))
    assert programs.called[1] == ([*module, "segment", "--target", "x y.nrrd"], os.getcwd())


@posix
def test_a_program_that_an_interrupt_ended_gives_130():
    code = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
    assert setup_env.call([sys.executable, "-c", code], os.getcwd()) == setup_env.INTERRUPTED


@posix
def test_test_runs_the_linters_and_then_the_tests_whatever_the_linters_say(venv, programs):
    programs.exits = {"ruff": 1}
    assert setup_env.main(["test", "--venv", str(venv), "-k", "geometry"]) == 1
    assert [words[1] for words, _ in programs.called] == ["ruff", "ruff", "mypy", "pytest"]
    assert programs.called[-1][0][-2:] == ["-k", "geometry"] and setup_env.FAST_TESTS in programs.called[-1][0]
    programs.exits = {}
    assert setup_env.main(["test", "--venv", str(venv)]) == 0


@posix
def test_what_only_tests_need_is_fetched_once_and_never_for_the_demo(venv, programs, monkeypatch):
    monkeypatch.setattr(setup_env.sys, "platform", "linux")
    setup_env.main(["demo", "--venv", str(venv), "--torch", "cpu"])
    assert not any("mamba" in title or "Slicer" in title for title in programs.titles)
    programs.forget()
    assert setup_env.main(["test", "--venv", str(venv)]) == 0
    assert programs.titles == ["source of mamba-ssm", "libraries of Slicer"]
    assert Path(programs.commands[0][-1]).read_text(encoding="utf-8").count("--hash=sha256:104cc47e9101") == 1
    assert setup_env.CONSTRAINTS in programs.commands[1]
    (venv / "cache").mkdir()
    (venv / "cache" / "mamba_ssm-2.3.2.post1.tar.gz").touch()
    (venv / "lib" / "python3.11" / "site-packages" / "slicer_core-5.13.dist-info").mkdir(parents=True)
    programs.forget()
    assert setup_env.main(["test", "--venv", str(venv)]) == 0 and not programs.titles


@posix
def test_without_what_only_tests_need_the_tests_run_all_the_same(venv, programs, capsys):
    install(venv)
    programs.forget()
    programs.fail_at, programs.said = "mamba", UNREACHABLE
    assert setup_env.main(["test", "--venv", str(venv)]) == 0
    assert "tests that need the source of mamba-ssm are skipped" in capsys.readouterr().out
    assert programs.called[-1][0][1] == "pytest"


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        ("demo", "demo", []),
        ("demo --torch cpu", "demo", []),
        ("demo -- --json", "demo", ["--json"]),
        ("test -k run -x", "test", ["-k", "run", "-x"]),
        ("test -- --torch", "test", ["--torch"]),
        ("run segment --quiet -- x", "run", ["segment", "--quiet", "--", "x"]),
        ("run -- segment", "run", ["segment"]),
        ("--torch cpu run -- segment", "run", ["segment"]),
        ("run", "run", []),
    ],
)
def test_words_are_passed_on_as_documented(words, command, rest):
    options, passed = setup_env.parse(words.split())
    assert (options.command, passed) == (command, rest)


@pytest.mark.parametrize("words", ["", "dance", "demo --fast", "install -- x", "install --torch metal", "demo extra"])
def test_options_that_do_not_fit_end_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        setup_env.main(words.split())
    assert stop.value.code == 2 and "usage" in capsys.readouterr().err


def test_a_child_sees_no_packages_of_another_python(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET"):
        monkeypatch.setenv(name, "elsewhere")
    assert not {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET"} & set(setup_env.clean_environ())


def test_the_second_readme_command_is_what_ci_runs():
    script = ROOT / ".ci" / "run"
    assert "python3 setup_env.py test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert script.read_text(encoding="utf-8").rstrip().endswith("exec python3 setup_env.py test")
    assert os.name == "nt" or os.access(script, os.X_OK)


@pytest.mark.slow
@pytest.mark.network
def test_a_real_set_up_works_and_the_second_run_installs_nothing(tmp_path):
    command = [sys.executable, str(SCRIPT), "install", "--venv", str(tmp_path / ".venv")]
    subprocess.run(command, check=True, timeout=3000)
    again = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert again.stdout == "" and (tmp_path / ".venv" / setup_env.STAMP).is_file()
