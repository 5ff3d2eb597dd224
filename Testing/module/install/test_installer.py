"""The first run: consent before anything, the truth about what is missing, plain words for failures.

Slicer's functions are small stand-ins here. Installing itself is real in several tests: pip, a folder of wheels made by
the test, and a folder to install into.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import setup_env
from install_cases import ROOT, SAM2, PipTools, Tools, make_wheel, yes
from ProxyPromptSegmentModule.install import installer
from ProxyPromptSegmentModule.install.installer import Requirements
from ProxyPromptSegmentModule.install.messages import failure, purposes
from ProxyPromptSegmentModule.install.packages import (
    REQUIREMENTS,
    Packages,
    applies,
    normal,
    read_requirements,
    requirement_of,
)
from ProxyPromptSegmentModule.install.slicer_pip import overheard
from ProxyPromptSegmentModule.states import InstallState


@pytest.fixture
def made(target, tmp_path):
    """Requirements of a made-up engine and the wheels that satisfy them: ``made(wheels, sam2=..)``."""
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "enginetorch", "2.7")
    make_wheel(wheels, "engine", needs=("enginebase>=2",))
    make_wheel(wheels, "enginebase", "2.5")

    def make(tools=Tools, **options):
        tools = tools(target, wheels, **options)
        needs = Requirements(tools, Packages([str(target)]), ["engine>=1"], "enginetorch>=2.6", sam2=False)
        return needs, tools, wheels

    return make


def test_what_is_missing_is_said_without_importing_anything():
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'ProxyPromptSegment')!r}]\n"
        "from ProxyPromptSegmentModule.install.installer import Requirements\n"
        "needs = Requirements(); needs.missing(); needs.describe()\n"
        "print([m for m in ('torch', 'SimpleITK', 'scipy', 'peft', 'sam2', 'einops') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_nothing_is_missing_where_everything_is_installed():
    pytest.importorskip("sam2")
    assert Requirements().missing() == [] == Requirements().missing_for_sam2()
    assert Requirements().describe() == ""


def test_in_an_empty_python_everything_is_missing(target):
    needs = Requirements(Tools(target), Packages([str(target)]))
    lines = read_requirements(REQUIREMENTS)
    assert needs.missing() == [installer.TORCH, *filter(applies, lines)]
    assert needs.missing_for_sam2() == [*installer.SAM2_NEEDS, SAM2]


def test_the_text_names_every_package_with_its_purpose_its_size_and_its_source(target):
    text = Requirements(Tools(target), Packages([str(target)])).describe()
    for line in [*filter(applies, read_requirements(REQUIREMENTS)), SAM2]:
        assert f"{line}: {purposes()[normal(requirement_of(line).name)]}" in text
    assert "PyTorch" in text and "4 GB" in text and "MB from the Python Package Index" in text
    assert "None of your data is sent" in text
    assert "Extensions Manager" not in text


def test_without_the_extension_the_text_advises_it_and_offers_the_processor_alone(target):
    text = Requirements(Tools(target, extension=False), Packages([str(target)])).describe()
    assert "Extensions Manager" in text and "processor only" in text


def test_nothing_happens_before_somebody_agrees(made, target):
    needs, tools, _ = made()
    asked = []
    outcome = needs.install(lambda text: asked.append(text))
    assert len(asked) == 1 and outcome.state == InstallState.DECLINED and not tools.calls and not list(target.iterdir())
    assert outcome.missing == ("enginetorch>=2.6", "engine>=1")


def test_the_missing_is_installed_with_pytorch_first(made):
    needs, tools, _ = made()
    told = []
    outcome = needs.install(yes, told.append)
    assert outcome.state == InstallState.READY and needs.missing() == [], outcome.text
    assert [call[0] for call in tools.calls] == ["extension", "ensure"] and tools.calls[0][1] == ">=2.6"
    assert len(told) == 2 and "PyTorch" in told[0]
    assert needs.install(pytest.fail).state == InstallState.READY, "asks again although nothing is missing"


def test_after_a_failure_of_the_real_pip_the_missing_is_told_and_a_retry_succeeds(made):
    needs, tools, wheels = made(PipTools)
    (wheels / "enginebase-2.5-py3-none-any.whl").rename(wheels / "away")
    outcome = needs.install(yes)
    assert outcome.state == InstallState.FAILED and outcome.missing == ("engine>=1",) == tuple(needs.missing())
    assert "No matching distribution found for enginebase>=2" in outcome.text
    (wheels / "away").rename(wheels / "enginebase-2.5-py3-none-any.whl")
    assert needs.install(yes).state == InstallState.READY and needs.missing() == []
    assert [call[0] for call in tools.calls] == ["extension", "ensure", "ensure"], "PyTorch was installed twice"


def test_what_a_package_needs_is_looked_after_too(made, target):
    needs, _, wheels = made()
    Tools(target, wheels).pip(["--no-deps", "engine", "enginetorch"])  # like an installation that was broken off
    assert needs.missing() == ["enginebase>=2"]
    assert needs.install(yes).state == InstallState.READY


def test_a_package_that_is_too_old_is_missing(made, target, tmp_path):
    needs, _, _ = made()
    Tools(target, make_wheel(tmp_path / "old", "enginetorch", "2.1")).pip(["enginetorch"])
    assert "enginetorch>=2.6" in needs.missing()


def test_the_real_pip_takes_a_folder_of_wheels_without_a_network(made):
    needs, tools, wheels = made(PipTools)
    tools.wheels = None
    outcome = needs.install_from(wheels)
    assert outcome.state == InstallState.READY and needs.missing() == [], outcome.text
    assert [call[0] for call in tools.calls] == ["pip"] and "--no-index" in tools.calls[0][1]


def test_a_folder_that_does_not_exist_is_named(made, tmp_path):
    needs, tools, _ = made()
    outcome = needs.install_from(tmp_path / "gone")
    assert outcome.state == InstallState.FAILED and str(tmp_path / "gone") in outcome.text and not tools.calls


def test_without_the_extension_pytorch_comes_by_pip_and_on_linux_from_its_own_index(made, monkeypatch):
    needs, tools, _ = made(extension=False)
    monkeypatch.setattr(sys, "platform", "linux")
    needs.install(yes)
    first, second = (call[1] for call in tools.calls[:2])
    assert first[:3] == ("--index-url", installer.CPU_INDEX, "--no-deps") and "enginetorch>=2.6" in first
    assert "--index-url" not in second
    assert list(setup_env.TORCH_INDEX.values())[0] == installer.CPU_INDEX


def test_a_refusal_without_the_extension_says_how_to_get_it(made):
    needs, _, _ = made(extension=False)
    assert "Extensions Manager" in needs.install(lambda text: False).text


def test_in_testing_mode_nothing_is_asked_and_nothing_installed(made):
    needs, tools, _ = made(testing=True)
    outcome = needs.install(pytest.fail)
    assert outcome.state == InstallState.FAILED and "testing mode" in outcome.text and not tools.calls


def test_another_thread_than_the_main_one_is_refused(made):
    needs, tools, _ = made()
    raised = []

    def work():
        try:
            needs.install(yes)
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert raised and "main thread" in raised[0] and not tools.calls


def test_an_installation_that_ends_well_and_installs_nothing_is_no_success(made):
    needs, tools, _ = made()
    tools._run = lambda arguments: None
    outcome = needs.install(yes)
    assert outcome.state == InstallState.FAILED and "enginetorch>=2.6" in outcome.text


class FailingSam2(Tools):
    """SAM 2 cannot be built; everything else is there at once."""

    def _run(self, arguments) -> None:
        if "-r" in arguments:
            self.listed = Path(arguments[arguments.index("-r") + 1]).read_text()
            print("ERROR: Failed to build sam2")
            raise subprocess.CalledProcessError(1, "pip install")
        super()._run(arguments)


def test_without_sam2_the_rest_is_ready_and_the_text_says_what_is_not(target, tmp_path):
    tools = FailingSam2(target, make_wheel(tmp_path / "wheels", "enginetorch", "2.7"))
    needs = Requirements(tools, Packages([str(target)]), [], "enginetorch>=2.6")
    outcome = needs.install(yes)
    assert outcome.ready and needs.missing() == []
    assert "not available" in outcome.text and "Failed to build sam2" in outcome.text
    assert tools.calls[-1][2] == "0", "SAM2_BUILD_CUDA is not 0"
    assert tools.listed == " --hash=".join(installer.sam2_pin()) + "\n"
    assert "SAM2_BUILD_CUDA" not in os.environ


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "Free some disk"),
        (["ERROR: [WinError 5] Access is denied: 'numpy.pyd'"], "not writable"),
        (
            ["WARNING: Retrying after connection broken by ProxyError", "ERROR: No matching distribution found"],
            "HTTPS_PROXY",
        ),
        (["ERROR: No matching distribution found for torch>=2.6"], "No version is compatible"),
        (["something else"], "send the application's log"),
    ],
)
def test_a_failure_is_told_with_the_underlying_line_and_what_to_do(said, advice):
    text = failure(subprocess.CalledProcessError(1, "pip install"), said)
    assert advice in text
    assert said[-1].removeprefix("ERROR: ") in text or not said[-1].startswith("ERROR")


def test_a_failure_without_output_tells_the_error_itself():
    assert "PythonSlicer executable not found" in failure(RuntimeError("PythonSlicer executable not found"), [])


def test_what_is_printed_is_passed_on_and_remembered(capsys):
    with pytest.raises(ValueError, match="broken"), overheard() as lines:
        print("one", end="")
        print(" line\nERROR: two")
        raise ValueError("broken")
    assert lines == ["one line", "ERROR: two"]
    assert "one line\nERROR: two\n" in capsys.readouterr().out
