"""The packages of networks: imported without torchvision, and left as they are for everybody else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from optional_packages import skip_without_peft
from ProxyPromptSegmentLib.weights import availability

ROOT = Path(__file__).resolve().parents[2]
# What a slice does without; PyTorch before 2.8 imports more of itself.
UNUSED = (
    *("torchvision", "transformers", "matplotlib", "peft", "segment_anything", "sam2", "hydra", "monai", "skimage"),
    *("pandas", "pydicom", "tifffile", "nibabel", "highdicom", "requests", "scipy.signal", "scipy.stats"),
    *("scipy.optimize", "scipy.spatial"),
)
UNUSED_BY_NEW = ("torch._decomp", "torch._refs", "torch._dynamo", "torch._inductor", "sympy", "numpy.f2py.rules")
PATH = f"import sys; sys.path[:0] = [{str(ROOT)!r}]"
SEGMENT = """
import sys
import numpy as np, SimpleITK as sitk
from ProxyPromptSegmentLib.cli import main
image, masks = np.random.default_rng(0).random((3, 40, 40), np.float32), np.zeros((3, 40, 40), np.uint8)
masks[:, 10:25, 10:25] = 1
sitk.WriteImage(sitk.GetImageFromArray(image), "case.nrrd")
sitk.WriteImage(sitk.GetImageFromArray(masks), "masks.nrrd")
done = main("segment --support case.nrrd masks.nrrd --target case.nrrd --output out.seg.nrrd --quiet".split())
assert done in (0, 9), done  # noise may show nothing
"""


def output_of(code, folder=ROOT):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_embedded_model_segments_without_importing_what_it_does_not_use(tmp_path):
    loaded = f"sorted({{'torch', *{UNUSED}, *{UNUSED_BY_NEW}}} & set(sys.modules))"
    lines = output_of(f"{PATH}\n{SEGMENT}\nprint(*{loaded})", tmp_path)
    # einops makes PyTorch before 2.8 import its compiler, which imports transformers where it is installed.
    old = tuple(map(int, availability.torch_version().split(".")[:2])) < (2, 8)
    allowed = {"torch", *(("transformers", *UNUSED_BY_NEW) if old else ())}
    assert "torch" in lines[-1].split() and set(lines[-1].split()) <= allowed
    assert (tmp_path / "out.seg.nrrd").is_file()


@pytest.mark.slow
def test_segment_anything_can_be_imported_as_usual_afterwards_and_has_the_same_networks():
    """LoRA beside it, in the same process: a start of PyTorch and peft takes seconds."""
    skip_without_peft()
    guard = f"sys.path.append({str(ROOT / 'Testing' / 'helpers')!r}); import torchvision_guard as guard"
    lines = output_of(f"""
import importlib.util, sys
from ProxyPromptSegmentLib.networks.backbones.network_packages import segment_anything_modeling
from ProxyPromptSegmentLib.networks.model import build_model
ours = segment_anything_modeling()
assert ours is segment_anything_modeling()
print([name for name in sys.modules if name.startswith("segment_anything")])
build_model("sam-compact", lora_rank=2)
print(sorted(name for name in sys.modules if name.partition(".")[0] == "torchvision"))
print(importlib.util.find_spec("torchvision") is not None)
{guard}
guard.ensure_torchvision_importable()
import torch, segment_anything
with torch.device("meta"):
    sam = segment_anything.sam_model_registry["vit_b"]()
print(type(sam) is segment_anything.modeling.Sam, segment_anything.SamPredictor(sam).model is sam)
print(ours.Sam.__init__.__code__ == segment_anything.modeling.Sam.__init__.__code__)
""")
    there = importlib.util.find_spec("torchvision") is not None
    assert lines == ["[]", "[]", str(there), "True True", "True"]


def test_without_segment_anything_the_package_is_named(monkeypatch):
    from ProxyPromptSegmentLib.networks.backbones import network_packages

    monkeypatch.setattr(network_packages, "_SAM_ALIAS", "another_name")
    monkeypatch.setattr(network_packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as error:
        network_packages.segment_anything_modeling()
    assert error.value.name == "segment_anything"


@pytest.mark.parametrize(
    ("package", "installed", "needed"),
    [
        ("sam2", "2.2.2+cu121", "2.5.1"),
        ("sam2", "2.5.0", "2.5.1"),
        ("sam2", "2.5.1", ""),
        ("sam2", "2.13.0+cpu", ""),
        ("sam2", "", ""),
        ("segment-anything", "2.2.2", ""),
        ("", "2.2.2", ""),
    ],
)
def test_sam2_needs_torch_2_5_1(monkeypatch, package, installed, needed):
    monkeypatch.setattr(availability, "torch_version", lambda: installed)
    assert availability.newer_torch_for(package) == needed


def test_the_installed_torch_is_the_one_that_counts():
    import torch

    # A CUDA build may leave its mark out of the one or the other.
    assert availability.torch_version().partition("+")[0] == torch.__version__.partition("+")[0]


def test_with_an_old_torch_a_sam2_model_is_listed_as_not_available_and_refused_in_one_sentence(
    monkeypatch, tmp_path, capsys
):
    from ProxyPromptSegmentLib.cli import main
    from ProxyPromptSegmentLib.errors import UsageError
    from ProxyPromptSegmentLib.networks.model import build_model
    from ProxyPromptSegmentModule.models.catalog import ModelCatalog

    old = SimpleNamespace(version="2.2.2", read_text=lambda name: "Name: torch\nVersion: 2.2.2\n\nVersion: 9\n")
    monkeypatch.setattr(availability.metadata, "distribution", lambda name: old)
    assert main(["models", "list", "sam2-compact", "sam-compact"]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")}
    assert "not available, needs PyTorch 2.5.1" in listed["sam2-compact"]
    assert "not available" not in listed["sam-compact"]
    with pytest.raises(UsageError, match=r"'sam2-compact' is not available here: SAM 2 needs PyTorch 2\.5\.1 or newer"):
        build_model("sam2-compact")
    row = ModelCatalog().row("sam2-compact")
    assert not row.usable and "2.5.1" in row.reason and "2.2.2" in row.reason
    assert "2.5.1" not in ModelCatalog().row("sam-compact").reason
