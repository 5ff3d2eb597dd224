"""Starting where things are in the way: other packages, closed folders, little memory, settings nobody can read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ProxyPromptSegmentLib.commands.checks import check_inputs, check_torch_settings
from ProxyPromptSegmentLib.errors import DeviceError, InputError, OutputError, as_user_error

ROOT = Path(__file__).resolve().parents[2]


def models_path(folder: Path, **surroundings: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that needs little, from a folder."""
    return subprocess.run(
        [sys.executable, "-m", "ProxyPromptSegmentLib", "models", "path"],
        cwd=folder, env={**os.environ, **surroundings}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_file_called_numpy_in_the_working_folder_is_not_loaded(tmp_path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')\n")
    done = models_path(tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_another_numpy_on_the_path_is_named(tmp_path) -> None:
    (tmp_path / "numpy.py").write_text("x = 1\n")
    done = models_path(ROOT, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(tmp_path / "numpy.py") in done.stderr and "PYTHONPATH" in done.stderr


def test_what_may_not_be_read_is_named_as_such(tmp_path, monkeypatch) -> None:
    path = tmp_path / "x.nrrd"
    path.write_bytes(b"NRRD0004")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="may not be read by this user"):
        check_inputs([path])

    def closed(_: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", closed)
    with pytest.raises(InputError, match="may not be read by this user"):
        check_inputs([path])
    found = as_user_error(PermissionError(13, "Permission denied", str(path)))
    assert isinstance(found, InputError) and found.exit_code == 3 and "x.nrrd may not be read" in str(found)
    monkeypatch.undo()
    for name in ("x.nrrd", "new.nrrd"):  # what may be read could not be written, whether it exists or not
        refused = as_user_error(PermissionError(13, "Permission denied", str(tmp_path / name)))
        assert isinstance(refused, OutputError) and name in str(refused)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_is_one_whatever_a_library_calls_it(error) -> None:
    found = as_user_error(error)
    assert isinstance(found, DeviceError) and found.exit_code == 8 and "memory ran out" in str(found)
    assert as_user_error(RuntimeError("shapes differ")) is None


@pytest.mark.parametrize("said", ["garbage", "max_split_size_mb", "a:1,,b:2", ":1"])
def test_a_setting_of_the_allocator_that_ends_the_process_is_refused(monkeypatch, said) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", said)
    with pytest.raises(DeviceError, match="PYTORCH_CUDA_ALLOC_CONF"):
        check_torch_settings()
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,roundup_power2_divisions:[256:1,>:4]")
    check_torch_settings()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that takes no files")
def test_a_folder_that_takes_no_files_is_refused_before_the_work() -> None:
    from ProxyPromptSegmentLib.errors import OutputError
    from ProxyPromptSegmentLib.imaging.output_files import check_output_path

    with pytest.raises(OutputError, match="/proc (cannot|may not) be written"):
        check_output_path(Path("/proc/x.nrrd"), (".nrrd",))


@pytest.mark.skipif(os.name == "nt", reason="pip's cache is elsewhere there")
def test_the_set_up_does_without_a_cache_where_none_can_be_written(tmp_path, monkeypatch) -> None:
    from setup_cases import setup_env

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PIP_CACHE_DIR", raising=False)
    monkeypatch.delenv("PIP_NO_CACHE_DIR", raising=False)
    assert "PIP_NO_CACHE_DIR" not in setup_env.clean_environ()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as on a disk that is read-only
    assert setup_env.clean_environ()["PIP_NO_CACHE_DIR"] == "1"
    assert not list(tmp_path.iterdir())
