"""Weights in 8 bits: small files, small errors, and files of both kinds are read."""

import pytest
import torch

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint, save_checkpoint
from ProxyPromptSegmentLib.networks.eight_bit import SCALE, from_eight_bit, to_eight_bit


def example() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    wide = torch.randn(64, 40, 3, 3) * torch.logspace(-4, 1, 64).view(-1, 1, 1, 1)
    return {"wide": wide, "bias": torch.randn(64), "small": torch.randn(4, 5), "count": torch.tensor(7)}


def test_every_row_is_restored_to_a_half_step_of_its_own_largest_value():
    tensors = example()
    restored = from_eight_bit(to_eight_bit(tensors))
    assert restored.keys() == tensors.keys()
    step = tensors["wide"].flatten(1).abs().amax(1) / 127
    error = (restored["wide"] - tensors["wide"]).flatten(1).abs().amax(1)
    assert (error <= 0.5001 * step).all()
    for name in ("bias", "small", "count"):
        assert torch.equal(restored[name], tensors[name])


def test_a_row_of_zeros_stays_a_row_of_zeros():
    rows = torch.randn(64, 64)
    rows[5] = 0
    restored = from_eight_bit(to_eight_bit({"w": rows}))["w"]
    assert torch.equal(restored[5], torch.zeros(64)) and torch.isfinite(restored).all()


def test_a_file_in_8_bits_is_half_as_large_as_in_16_and_is_read_as_floats(tmp_path):
    tensors = {"w": torch.randn(256, 512)}
    save_checkpoint(tmp_path / "half.safetensors", {"w": tensors["w"].half()}, {})
    digest = save_checkpoint(tmp_path / "eight.safetensors", tensors, {}, eight_bit=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("half.safetensors", "eight.safetensors")]
    assert sizes[1] < 0.52 * sizes[0]
    read, metadata = read_checkpoint(tmp_path / "eight.safetensors", digest)
    assert read.keys() == {"w"} and read["w"].dtype == torch.float32
    assert metadata["format"] == 2
    assert read_checkpoint(tmp_path / "half.safetensors")[1]["format"] == 1


def test_a_file_whose_factors_are_missing_is_refused(tmp_path):
    stored = to_eight_bit({"w": torch.randn(64, 64)})
    del stored["w" + SCALE]
    save_checkpoint(tmp_path / "x.safetensors", stored, {})
    with pytest.raises(CheckpointError, match="8 bits"):
        read_checkpoint(tmp_path / "x.safetensors")
