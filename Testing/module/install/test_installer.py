"""The first run: consent before anything, the truth about what is missing, plain words for failures.

Slicer's functions are small stand-ins here. Installing itself is real in several tests: pip, a folder of wheels made by
the test, and a folder to install into.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "ProxyPromptSegment"))

import setup_env
from ProxyPromptSegmentModule.install import installer, packages
from ProxyPromptSegmentModule.install.installer import Requirements
from ProxyPromptSegmentModule.install.messages import MEGABYTES, failure, purposes
from ProxyPromptSegmentModule.install.packages import (
    HELD,
    IMPORT_NAMES,
    REQUIREMENTS,
    Packages,
    applies,
    normal,
    read_requirements,
    requirement_of,
)
from ProxyPromptSegmentModule.install.slicer_pip import SlicerTools, overheard, suitable
from ProxyPromptSegmentModule.states import InstallState

SAM2 = installer.sam2_pin()[0].partition(";")[0]
PINS = read_requirements(ROOT / "Resources" / "constraints.txt")


def make_wheel(folder: Path, name: str, version: str = "1.0", needs: tuple[str, ...] = ()) -> Path:
    """A wheel with one empty module, as pip takes it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": "".join(
            f"{line}\n"
            for line in ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}",
                         *(f"Requires-Dist: {need}" for need in needs))
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return folder


class Tools:
    """A stand-in for Slicer's functions that unpacks wheels into a folder, so that most tests need no pip."""

    def __init__(self, target: Path, wheels: Path | None = None, extension: bool = True, testing: bool = False) -> None:
        self.target, self.wheels, self.calls = target, wheels, []
        self.extension, self.in_test = extension, testing

    def testing(self) -> bool:
        return self.in_test

    def has_pytorch_extension(self) -> bool:
        return self.extension

    def install_torch(self, requirement: str) -> None:
        self.calls.append(("extension", requirement))
        self._run([f"enginetorch{requirement}"])

    def ensure(self, requirements, constraints: Path) -> None:
        self.calls.append(("ensure", tuple(requirements), constraints.read_text().splitlines()))
        self._run([*requirements, "-c", str(constraints)])

    def pip(self, arguments) -> None:
        self.calls.append(("pip", tuple(arguments), os.environ.get("SAM2_BUILD_CUDA")))
        self._run(arguments)

    def _run(self, arguments) -> None:
        named = {requirement_of(word).name for word in arguments if word.startswith("engine")}
        if "engine" in named and "--no-deps" not in arguments:
            named.add("enginebase")
        for wheel in sorted(self.wheels.glob("*.whl")):
            if wheel.name.split("-")[0] in named:
                zipfile.ZipFile(wheel).extractall(self.target)


class PipTools(Tools):
    """The same with the real pip."""

    def _run(self, arguments) -> None:
        source = ["--no-index"] + (["--find-links", str(self.wheels)] if self.wheels else [])
        command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--no-compile", "--target", str(self.target), *source, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        print(done.stdout + done.stderr)  # as Slicer's functions do
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, "pip install")


def yes(text: str) -> bool:
    return True


@pytest.fixture(autouse=True)
def new_pytorch(monkeypatch):
    """The PyTorch of the tests' own Python decides nothing here."""
    monkeypatch.setattr(installer, "newer_torch_for", lambda package: "")


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


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


class Versions(Packages):
    """Packages with given versions."""

    def __init__(self, **versions: str) -> None:
        super().__init__([])
        self.versions = {normal(name): version for name, version in versions.items()}

    def _distribution(self, name):
        version = self.versions.get(normal(name))
        return version and types.SimpleNamespace(version=version, requires=[])

    def _importable(self, name):
        return any(IMPORT_NAMES.get(own, own) == name for own in self.versions)


def test_what_slicer_has_is_held_and_what_is_new_gets_the_tested_version():
    packages = Versions(
        numpy="2.3.4", scipy="1.16.0", SimpleITK="2.5.0", torch="2.8.0+cu126", requests="2.1", einops="0.1"
    )
    lines = packages.constraints(PINS, ["einops>=0.8", "peft>=0.17"])
    assert {"numpy==2.3.4", "scipy==1.16.0", "simpleitk==2.5.0", "torch==2.8.0+cu126"} <= set(lines)
    names = [normal(requirement_of(line).name) for line in lines]
    assert names.count("numpy") == names.count("torch") == 2 - 1, "a pin contradicts what is held"
    assert "requests" not in names, "a package of Slicer or of another extension would be changed"
    assert {"einops==0.8.2", "peft==0.21.2"} <= set(lines)
    assert "torchvision==0.28.0" not in lines, "PyTorch's parts come from the extension"


def test_a_numpy_that_is_too_old_is_never_replaced(target):
    tools = Tools(target)
    outcome = Requirements(tools, Versions(numpy="1.26.4"), ["numpy>=2.0"], "numpy").install(pytest.fail)
    assert outcome.state == InstallState.FAILED and "numpy 1.26.4" in outcome.text and not tools.calls


def test_what_others_ask_of_slicers_own_packages_changes_nothing():
    packages = Versions(numpy="2.3.4", engine="1")
    plain = packages._distribution
    packages._distribution = lambda name: (
        types.SimpleNamespace(version="1", requires=["numpy>=3", "tests; extra == 'dev'"])
        if name == "engine"
        else plain(name)
    )
    assert packages.unmet(["engine"]) == []
    assert packages.unmet(["numpy>=3"]) == ["numpy>=3"]


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


# Slicer's own functions, as stand-ins with the real parameters.


@pytest.fixture
def slicer(monkeypatch):
    """An empty stand-in for Slicer's package."""
    module = types.ModuleType("slicer")
    module.util = types.ModuleType("slicer.util")
    module.__path__ = []
    monkeypatch.setitem(sys.modules, "slicer", module)
    monkeypatch.setitem(sys.modules, "slicer.util", module.util)
    monkeypatch.delitem(sys.modules, "slicer.packaging", raising=False)
    return module


def test_since_slicer_5_12_pip_ensure_is_used_and_asks_nothing_more(slicer, monkeypatch, tmp_path):
    calls = []

    def pip_ensure(requirements, constraints=None, skip_packages=None, prompt_install=True, prompt_restart=True,
                   requester=None, skip_in_testing=True, show_progress=True):  # fmt: skip
        calls.append((requirements, constraints, prompt_install, requester))

    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    SlicerTools().ensure(["einops>=0.8"], tmp_path / "c.txt")
    assert calls == [(["einops>=0.8"], str(tmp_path / "c.txt"), False, "Proxy Prompt Segment")]


def test_before_slicer_5_12_pip_install_is_used_with_the_constraints_as_arguments(slicer, tmp_path):
    calls = []
    slicer.util.pip_install = lambda requirements: calls.append(requirements)
    SlicerTools().ensure(["einops>=0.8"], tmp_path / "c c.txt")
    assert calls == [["einops>=0.8", "-c", str(tmp_path / "c c.txt")]]


class Torch2024:
    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None,
                     torchvisionVersionRequirement=None):  # fmt: skip
        self.got.append((askConfirmation, torchVersionRequirement))


class TorchOld:
    def installTorch(self, askConfirmation=False, forceComputationBackend=None):
        self.got.append((askConfirmation, None))


class TorchBare:
    def installTorch(self):
        self.got.append((False, None))


class TorchAny:
    def installTorch(self, **keywords):
        self.got.append((keywords["askConfirmation"], keywords["torchVersionRequirement"]))


@pytest.mark.parametrize(
    ("logic", "requirement"), [(Torch2024, ">=2.6"), (TorchOld, None), (TorchBare, None), (TorchAny, ">=2.6")]
)
def test_the_extension_is_called_with_the_keywords_that_it_has(monkeypatch, logic, requirement):
    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic, logic.got = logic, []
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    assert SlicerTools().has_pytorch_extension()
    SlicerTools().install_torch(">=2.6")
    assert logic.got == [(False, requirement)]


def test_without_the_extension_that_is_said():
    assert not SlicerTools().has_pytorch_extension()


def test_a_function_without_a_signature_gets_no_keywords():
    assert suitable(dict.fromkeys, {"a": 1}) == {} or suitable(min, {"a": 1}) == {}


def test_every_package_that_is_asked_for_has_a_purpose_and_a_size():
    for line in [*read_requirements(REQUIREMENTS), installer.TORCH, *installer.SAM2_NEEDS, SAM2]:
        name = normal(requirement_of(line).name)
        assert name in IMPORT_NAMES and (name in HELD or name in MEGABYTES and name in purposes()), line


# Macs with Intel processors: the last PyTorch there is 2.2.


@pytest.fixture
def intel_mac(monkeypatch):
    """What the markers and the rules say on such a Mac, with a Slicer that has NumPy 2."""
    markers = pytest.importorskip("packaging.markers")
    values = {**markers.default_environment(), "sys_platform": "darwin", "platform_machine": "x86_64"}
    monkeypatch.setattr(markers, "default_environment", lambda: values)
    monkeypatch.setattr(packages, "SLICERS_OWN", ("scipy", "simpleitk"))
    monkeypatch.setattr(installer, "SLICERS_OWN", ("scipy", "simpleitk"))
    monkeypatch.setattr(packages, "HELD", ("scipy", "simpleitk", "torch", "torchvision"))
    return Versions(numpy="2.3.4", scipy="1.16.0", SimpleITK="2.5.0")


def test_on_an_intel_mac_numpy_1_and_transformers_4_are_asked_for_and_sam2_is_not(intel_mac, target):
    needs = Requirements(Tools(target), intel_mac)
    assert {"numpy<2", "transformers<5"} <= set(needs.missing()) and not needs.missing_for_sam2()
    assert f"• numpy<2: {purposes()['numpy']}" in needs.describe() and "sam2" not in needs.describe()
    lines = intel_mac.constraints(PINS, needs.missing())
    assert "numpy==2.3.4" not in lines and "scipy==1.16.0" in lines
    assert [line.partition(";")[0] for line in lines if line.startswith(("numpy", "transformers", "huggingface"))] == [
        "numpy==1.26.4",
        "huggingface_hub==0.36.2",
        "transformers==4.57.6",
    ]


def test_after_numpy_was_replaced_slicer_has_to_be_restarted(intel_mac, target):
    def take(requirements, constraints):
        intel_mac.versions.update(numpy="1.26.4")

    tools = Tools(target)
    tools.ensure = take
    needs = Requirements(tools, intel_mac, ["numpy<2; sys_platform == 'darwin'"], "scipy", sam2=False)
    outcome = needs.install(yes)
    assert outcome.ready and "Restart Slicer" in outcome.text


def test_with_a_pytorch_that_is_too_old_sam2_is_not_asked_for(monkeypatch, target):
    monkeypatch.setattr(installer, "newer_torch_for", lambda package: "2.5.1")
    assert Requirements(Tools(target), Packages([str(target)])).missing_for_sam2() == []
