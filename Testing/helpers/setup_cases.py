"""The script of the set-up as a module, and stand-ins that take the place of the programs it starts."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

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


def install(venv, *options):
    return setup_env.main(["install", "--venv", str(venv), *options])


UNREACHABLE = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'NameResolutionError(...)': /simple/torch/\nERROR: Could not find a version that satisfies the requirement "
    "torch (from versions: none)\nERROR: No matching distribution found for torch\n"
)
