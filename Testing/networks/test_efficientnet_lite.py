"""The pretrained trunk: timm's names and results, and norms that keep their statistics."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.networks.backbones.pyramid_encoder import PyramidImageEncoder
from ProxyPromptSegmentLib.networks.efficientnet_lite import LEVELS, WIDTHS, EfficientNetLite0
from torchvision_guard import ensure_torchvision_importable


def test_levels_have_strides_2_to_32():
    with torch.inference_mode():
        levels = EfficientNetLite0().eval()(torch.rand(1, 3, 96, 64))
    assert [tuple(level.shape) for level in levels] == [
        (1, width, 96 // stride, 64 // stride) for width, stride in zip(WIDTHS, (2, 4, 8, 16, 32), strict=True)
    ]
    assert len(LEVELS) == 5


@pytest.mark.parametrize("side", [64, 75])  # TensorFlow's padding differs for odd sizes
def test_it_computes_what_timm_computes(side):
    try:
        ensure_torchvision_importable()
        import timm
    except Exception as error:  # noqa: BLE001 - timm imports torchvision wherever that is installed
        pytest.skip(f"timm cannot be imported here: {error}")
    theirs = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(0, 1, 2, 3, 4)
    )
    torch.manual_seed(1)
    for name, value in theirs.state_dict().items():
        if value.is_floating_point():  # statistics too, so that their place in the names is checked
            value.copy_(torch.rand_like(value) * 0.5 + 0.25 if "bn" in name else torch.randn_like(value) * 0.1)
    ours = EfficientNetLite0()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing and not unexpected
    image = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        for mine, wanted in zip(ours.eval()(image), theirs.eval()(image), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


def test_training_changes_scales_and_shifts_but_no_statistics():
    trunk = EfficientNetLite0().train()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    trunk(torch.rand(2, 3, 64, 64))[-1].square().mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    assert trunk.bn1.weight.grad is not None and trunk.bn1.weight.grad.abs().max() > 0


def test_the_encoder_embeds_at_stride_8_and_sees_every_level():
    torch.manual_seed(0)
    encoder = PyramidImageEncoder(img_size=64, channels=32).train()
    out = encoder(torch.randn(2, 3, 64, 64))
    assert out.shape == (2, 32, 8, 8)
    out.square().mean().backward()
    still = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().max()]
    assert still == []
