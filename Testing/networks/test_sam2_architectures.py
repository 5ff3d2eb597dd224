"""The official SAM 2 networks are the package's own, built beside Hydra; the compact one is of the same parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import (
    COMPACT,
    SAM2_CONFIGS,
    SAM2_NAMES,
    build_sam2_modules,
)
from ProxyPromptSegmentLib.networks.values import Prompt
from sam2_package import Sam2Backbone, without_weights

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {
    "sam2-hiera-tiny": 38_945_986,
    "sam2-hiera-small": 46_043_842,
    "sam2-hiera-base-plus": 80_833_666,
    "sam2-hiera-large": 224_430_130,
    "sam2.1-hiera-tiny": 38_962_498,
    "sam2.1-hiera-small": 46_060_354,
    "sam2.1-hiera-base-plus": 80_850_178,
    "sam2.1-hiera-large": 224_446_642,
    "sam2-compact": 3_037_594,
}
MILLIONS = {"tiny": 39.0, "small": 46.1, "base-plus": 80.9, "large": 224.4}


def parameters_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


def by_the_package(name, **options):
    """What the package's own function builds, through Hydra."""
    from sam2.build_sam import build_sam2

    with without_weights():
        return build_sam2(SAM2_CONFIGS[name], device="meta", **options)


def settings_of(module):
    """The plain values by which two networks with the same tensors may still differ, by module and attribute."""
    kinds = (bool, int, float, str, tuple, list, type(None))
    return {
        f"{path}.{key}": value
        for path, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, kinds) and not key.startswith("_") and key != "training"
    }


def test_every_name_is_known():
    assert set(PARAMETERS) == set(SAM2_NAMES)
    assert len(SAM2_CONFIGS) == 8


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_size_has_its_number_of_parameters_and_its_grid(name):
    with without_weights():
        made = Sam2Backbone(name)
    assert parameters_of(made.sam2) == PARAMETERS[name]
    if name.startswith("sam2.1-"):
        published = MILLIONS[name.removeprefix("sam2.1-hiera-")]
        assert parameters_of(made.sam2) / 1e6 == pytest.approx(published, abs=0.05)
    compact = name == "sam2-compact"
    assert (made.name, made.keeps_aspect) == (name, compact)
    assert (made.image_size, made.grid) == ((128, 16) if compact else (1024, 64))
    assert (made.channels, made.memory_channels) == ((128, 32) if compact else (256, 64))
    assert (made.memories, made.pointers) == (6, 16)


@pytest.mark.parametrize("name", SAM2_CONFIGS)
def test_official_sizes_are_what_the_package_builds_without_its_post_processing(name):
    with without_weights():
        ours = build_sam2_modules(name).eval()
    theirs = by_the_package(name, apply_postprocessing=False)
    assert type(ours) is type(theirs)
    for state in (ours.state_dict(), theirs.state_dict()):
        assert all(tensor.is_meta for tensor in state.values())
    assert {key: (value.shape, value.dtype) for key, value in ours.state_dict().items()} == {
        key: (value.shape, value.dtype) for key, value in theirs.state_dict().items()
    }
    assert str(ours) == str(theirs)
    mine, its = settings_of(ours), settings_of(theirs)
    assert len(mine) > 1000
    assert {key: (mine.get(key), its.get(key)) for key in mine | its if mine.get(key) != its.get(key)} == {}
    # the second habit, which the YAML asks for: one of three masks, without any click
    assert theirs._use_multimask(is_init_cond_frame=False, point_inputs=None)


@pytest.mark.parametrize("name", ["sam2-hiera-tiny", "sam2.1-hiera-tiny"])
def test_the_fallback_of_unstable_masks_is_on_in_the_packages_default_and_off_in_ours(name):
    assert by_the_package(name).sam_mask_decoder.dynamic_multimask_via_stability
    with without_weights():
        assert not build_sam2_modules(name).sam_mask_decoder.dynamic_multimask_via_stability


def test_the_compact_decoder_has_no_fallback_and_no_three_masks():
    made = build_sam2_modules("sam2-compact").eval()
    assert not made.sam_mask_decoder.dynamic_multimask_via_stability
    assert not made._use_multimask(is_init_cond_frame=False, point_inputs=None)


def test_the_compact_backbone_has_three_levels_and_the_rotary_angles_of_its_own_grid():
    made = Sam2Backbone("sam2-compact").eval()
    with torch.inference_mode():
        features = made.encode(torch.rand(1, 3, 128, 128))
    assert features.top.shape == (1, 128, 16, 16)
    assert [tuple(level.shape) for level in features.high_res] == [(1, 16, 64, 64), (1, 32, 32, 32)]
    for layer in made.sam2.memory_attention.layers:  # else they would be computed anew at every call
        for attention in (layer.self_attn, layer.cross_attn_image):
            assert len(attention.freqs_cis) == (COMPACT["image_size"] // COMPACT["stride"]) ** 2


def test_the_compact_embedding_has_a_scale_of_its_own_and_the_finer_levels_are_the_packages():
    from sam2.modeling.backbones.image_encoder import FpnNeck

    torch.manual_seed(0)
    neck = build_sam2_modules("sam2-compact").image_encoder.neck.eval()
    levels = [torch.randn(1, width, side, side) for width, side in zip((24, 48, 96, 160), (64, 32, 16, 8), strict=True)]
    with torch.inference_mode():
        theirs, _ = FpnNeck.forward(neck, levels)
        ours, _ = neck([7.0 * level for level in levels])
        again, positions = neck(levels)
    for number in (0, 1, 3):
        assert torch.equal(again[number], theirs[number])
    assert [position.shape for position in positions] == [level.shape for level in again]
    # over the channels of each position: mean 0 and variance 1 at the start, however strong the image
    for made in (ours[2], again[2]):
        torch.testing.assert_close(made.mean(1), torch.zeros(1, 16, 16), atol=1e-4, rtol=0)
        torch.testing.assert_close(made.var(1, unbiased=False), torch.ones(1, 16, 16), atol=1e-2, rtol=0)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"no SAM 2 backbone 'sam3'; choose one of sam2-hiera-tiny, .*sam2-compact"):
        build_sam2_modules("sam3")


@pytest.mark.parametrize("name", ["sam2.1-hiera-tiny", "sam2-hiera-small", "sam2-compact"])
def test_building_leaves_hydra_as_it_was(name):
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton
    from omegaconf import OmegaConf

    def state():
        hydra = GlobalHydra.instance().hydra
        search = hydra.config_loader.get_search_path().get_path()
        kept = {kind: id(one) for kind, one in Singleton._instances.items()}
        return hydra, [str(element) for element in search], kept, OmegaConf.has_resolver("hydra")

    before = state()
    with without_weights():
        build_sam2_modules(name)
    assert state() == before


HOST = """
import json, sys
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
initialize_config_dir(sys.argv[1], version_base="1.2")
own = GlobalHydra.instance().hydra
from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import build_sam2_modules
counts = [sum(p.numel() for p in build_sam2_modules(name).parameters()) for name in sys.argv[2:]]
same = GlobalHydra.instance().hydra is own
print(json.dumps({"counts": counts, "same": same, "answer": compose("host").answer}))
"""


def test_an_application_that_uses_hydra_itself_keeps_it_and_both_work(tmp_path):
    (tmp_path / "host.yaml").write_text("answer: 42\n", encoding="utf-8")
    names = ("sam2.1-hiera-tiny", "sam2-compact")
    run = subprocess.run(
        [sys.executable, "-c", HOST, str(tmp_path), *names], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found == {"counts": [PARAMETERS[name] for name in names], "same": True, "answer": 42}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAM2_CONFIGS)
def test_each_official_size_encodes_decodes_and_remembers(name):
    torch.manual_seed(0)
    made = Sam2Backbone(name).eval()
    with torch.inference_mode():
        features = made.encode(torch.rand(1, 3, 1024, 1024))
        assert features.top.shape == (1, 256, 64, 64)
        assert [tuple(level.shape[1:]) for level in features.high_res] == [(32, 256, 256), (64, 128, 128)]
        prompt = Prompt(memory=torch.randn(1, 1, 256, 256))
        first = made.decode(features, prompt)
        memory = made.remember(features, first, 0)
        assert memory.spatial.shape == (1, 64, 64, 64)
        assert memory.pointer.shape == (1, 256)
        second = made.decode(features, prompt, [memory], 1)
    for decoded in (first, second):
        assert decoded.logits.shape == (1, 1, 256, 256)
        assert decoded.quality.shape == decoded.presence.shape == (1, 1)
        assert decoded.logits.isfinite().all()
    assert not torch.equal(first.logits, second.logits)
