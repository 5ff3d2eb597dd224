"""Loading of large packages: what is executed later, and when."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from ProxyPromptSegmentLib.package_loading import Later, loading


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Three modules; each says when it is executed. ``made_user`` binds ``made_late`` as packages bind theirs."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "made_late.py").write_text("__import__('builtins').ran.append('late')\nvalue = 3\n")
    (tmp_path / "made_user.py").write_text("import made_late\ndef read(): return made_late.value\n")
    (tmp_path / "made_after.py").write_text("__import__('builtins').ran.append('after')\n")
    ran: list[str] = []
    monkeypatch.setattr("builtins.ran", ran, raising=False)
    finders = list(sys.meta_path)
    yield ran
    sys.meta_path[:] = finders
    for name in ("made_late", "made_user", "made_after"):
        sys.modules.pop(name, None)


def test_a_module_is_executed_when_one_of_its_names_is_asked_for(modules):
    with loading(Later("made_late")):
        import made_user
    assert modules == [] and "made_late" in sys.modules
    assert not hasattr(sys.modules["made_late"], "__path__") and modules == []  # as inspect asks of all modules
    assert made_user.read() == 3 and modules == ["late"]
    assert made_user.read() == 3 and modules == ["late"]
    assert type(sys.modules["made_late"]) is type(sys)


def test_a_module_is_executed_before_the_one_that_needs_it(modules):
    with loading(Later("made_late", before="made_after")):
        import made_user  # noqa: F401
    import made_after  # noqa: F401

    assert modules == ["late", "after"]


def test_what_is_loaded_already_and_what_follows_the_block_is_imported_as_ever(modules):
    finders = list(sys.meta_path)
    with loading(Later("made_late"), Later("made_missing")):
        pass
    assert sys.meta_path == finders
    import made_late

    with loading(Later("made_late")):
        assert made_late.value == 3
    assert modules == ["late"]
    with pytest.raises(ModuleNotFoundError), loading(Later("made_missing")):
        import made_missing  # noqa: F401


def test_unreachable_objects_are_searched_for_again_after_the_block(modules):
    with pytest.raises(ZeroDivisionError), loading():
        assert not gc.isenabled()
        1 / 0  # noqa: B018
    assert gc.isenabled()
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.slow
def test_the_compiler_of_pytorch_works_after_its_first_part_was_left_out():
    """Three seconds: what is left out is what only a process can show that has not imported PyTorch."""
    pytest.importorskip("torch")
    code = """
import sys
from ProxyPromptSegmentLib.package_loading import TORCH_LATER, loading
with loading(TORCH_LATER):
    import torch
print("torch._decomp" in sys.modules, type(sys.modules[TORCH_LATER.name]).__name__)
x = torch.ones(2, 2, requires_grad=True)
torch.compile(lambda x: (x @ x).softmax(-1).cumsum(0), backend="aot_eager")(x).sum().backward()
print(type(sys.modules[TORCH_LATER.name]).__name__, torch.empty(3, 3, device="meta").cumsum(0).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["False _Later", "module torch.Size([3, 3])"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="another OpenMP may say otherwise how it waits")
@pytest.mark.parametrize("own", ["", "ACTIVE"])
def test_threads_of_the_command_sleep_while_they_wait_unless_the_user_chose_otherwise(own):
    pytest.importorskip("torch")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    words = [sys.executable, "-m", "ProxyPromptSegmentLib", "benchmark", "--rows", "half", "--device", "cpu"]
    surroundings = {**kept, "OMP_DISPLAY_ENV": "VERBOSE", **({"OMP_WAIT_POLICY": own} if own else {})}
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=300)
    # How often a thread looks before it sleeps; the policy itself is called passive also where nothing is said.
    assert ("GOMP_SPINCOUNT = '0'" in done.stderr) == (not own) and "GOMP_SPINCOUNT" in done.stderr, done.stderr[:2000]
