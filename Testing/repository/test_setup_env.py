"""The set-up: what it installs in which order, which Pythons it takes, and what its commands pass on."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from setup_cases import ROOT, SCRIPT, UNREACHABLE, install, posix, setup_env

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


def test_a_child_sees_no_packages_of_another_python_and_keeps_its_bytecode(monkeypatch):
    hidden = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PYTHONDONTWRITEBYTECODE"}
    for name in hidden:
        monkeypatch.setenv(name, "elsewhere")
    assert not hidden & set(setup_env.clean_environ())


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
