"""The ImageNet weights of the trunk are read from the package's file, and another file is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0
from ProxyPromptSegmentLib.networks.imagenet_trunk import load_imagenet


def test_a_file_without_the_trunks_weights_is_refused_in_a_sentence(tmp_path):
    file = tmp_path / "weights.pth"
    with pytest.raises(CheckpointError, match="does not hold the ImageNet weights"):
        load_imagenet(file)
    trunk = EfficientNetLite0()
    state = {f"old.{n}": value for n, value in enumerate(trunk.state_dict().values()) if value.ndim}
    torch.save(state, file)
    for one, other in zip(load_imagenet(file).state_dict().values(), trunk.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    torch.save({name: value for n, (name, value) in enumerate(state.items()) if n != 3}, file)
    with pytest.raises(CheckpointError, match="are not those of EfficientNet-Lite0"):
        load_imagenet(file)
