"""The set-up after a failure: what is broken is repaired, errors are one sentence, and two do not meet."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from setup_cases import UNREACHABLE, install, posix, setup_env

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
