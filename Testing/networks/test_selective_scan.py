"""The chunked scan, its hand-written gradients and its inference path against plain recurrences."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import tarfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ProxyPromptSegmentLib.networks.proxy_prompt import scan_recurrence
from ProxyPromptSegmentLib.networks.proxy_prompt import selective_scan as module
from ProxyPromptSegmentLib.networks.proxy_prompt.selective_scan import (
    scan_time_major,
    selective_scan,
    selective_scan_reference,
)

ROOT = Path(__file__).resolve().parents[2]
SDIST_SHA256 = "104cc47e9101e5401a675fa2b784f2952b9b037f3b1dd83b5ac544394e95d028"  # mamba_ssm-2.3.2.post1.tar.gz
INTERFACE = "mamba_ssm/ops/selective_scan_interface.py"
LENGTHS = (1, 7, 64, 65, 197, 777)


def problem(length, batch=2, channels=6, states=4, groups=2, dtype=torch.float32, seed=0):
    """Random arguments of the scan, in the order of its signature; delta is meant to pass softplus."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    arguments = [
        draw(batch, channels, length),
        draw(batch, channels, length),
        -draw(channels, states).exp(),
        draw(batch, groups, states, length),
        draw(batch, groups, states, length),
        draw(channels),
        draw(batch, channels, length),
        draw(channels),
    ]
    return [x.requires_grad_() for x in arguments]


def output_and_gradients(scan, arguments, **options):
    y = scan(*arguments, delta_softplus=True, **options)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), arguments)]


def relative_error(got, wanted):
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in zip(got, wanted, strict=True))


@pytest.fixture(scope="session")
def mamba_reference():
    """``selective_scan_ref`` of mamba_ssm, read from an installed package or from its source archive."""
    source = _mamba_source()
    if source is None:
        pytest.skip(
            "mamba_ssm's source is not here: set PROXYPROMPT_MAMBA_SDIST to mamba_ssm-2.3.2.post1.tar.gz, "
            "or put that file into .venv/cache"
        )
    einops = pytest.importorskip("einops")
    functions = [n for n in ast.parse(source).body if getattr(n, "name", "") == "selective_scan_ref"]
    names = {
        "torch": torch,
        "F": torch.nn.functional,
        "rearrange": einops.rearrange,
        "repeat": einops.repeat,
    }
    exec(compile(ast.Module(functions, []), INTERFACE, "exec"), names)  # noqa: S102 - its text is pinned by its hash
    return names["selective_scan_ref"]


def _mamba_source():
    spec = importlib.util.find_spec("mamba_ssm")
    if spec is not None and spec.submodule_search_locations:
        return (Path(spec.submodule_search_locations[0]).parent / INTERFACE).read_text(encoding="utf-8")
    named = os.environ.get("PROXYPROMPT_MAMBA_SDIST")
    archives = [Path(named)] if named else sorted((ROOT / ".venv" / "cache").glob("mamba_ssm-2.3.2.post1.tar.gz"))
    if not archives:
        return None
    assert hashlib.sha256(archives[0].read_bytes()).hexdigest() == SDIST_SHA256, f"{archives[0]} is another file"
    with tarfile.open(archives[0]) as archive:
        return archive.extractfile(f"mamba_ssm-2.3.2.post1/{INTERFACE}").read().decode()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_equals_mambas_own_reference_in_values_and_gradients(mamba_reference, length, groups):
    arguments = problem(length, groups=groups)
    wanted = output_and_gradients(mamba_reference, arguments)
    for chunk in (None, 64):
        got = output_and_gradients(selective_scan, arguments, chunk=chunk)
        assert relative_error(got, wanted) < 1e-5


def test_our_reference_equals_mambas_own(mamba_reference):
    arguments = problem(65)
    got, wanted = (output_and_gradients(scan, arguments) for scan in (selective_scan_reference, mamba_reference))
    assert relative_error(got, wanted) < 1e-6


@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_equals_the_step_by_step_reference_in_double_precision(length):
    arguments = problem(length, dtype=torch.float64)
    got, wanted = (output_and_gradients(scan, arguments) for scan in (selective_scan, selective_scan_reference))
    assert relative_error(got, wanted) < 1e-12


@pytest.mark.parametrize("block_elements", [1, 500, 1 << 30])
@pytest.mark.parametrize("chunk", [1, 5, 16, 64, 1000])
def test_neither_chunks_nor_blocks_change_the_result(monkeypatch, chunk, block_elements):
    arguments = problem(65, dtype=torch.float64)
    wanted = output_and_gradients(selective_scan_reference, arguments)
    monkeypatch.setattr(scan_recurrence, "_BLOCK_ELEMENTS", block_elements)
    assert relative_error(output_and_gradients(selective_scan, arguments, chunk=chunk), wanted) < 1e-12


def test_a_large_batch_is_split_without_changing_the_result(monkeypatch):
    arguments = problem(33, batch=5, dtype=torch.float64)
    wanted = output_and_gradients(selective_scan_reference, arguments)
    monkeypatch.setattr(module, "_STEP_MOST", 2 * 6 * 4)
    assert relative_error(output_and_gradients(selective_scan, arguments), wanted) < 1e-12


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_hand_written_gradients_pass_gradcheck(chunk):
    arguments = problem(7, channels=4, states=2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, delta_softplus=True, chunk=chunk), arguments)


@pytest.mark.parametrize("chunk", [None, 64])
def test_the_future_never_changes_the_past_by_a_single_bit(chunk):
    arguments = [x.detach() for x in problem(777)]
    before = selective_scan(*arguments, delta_softplus=True, chunk=chunk)
    for index in (0, 1, 3, 4):
        changed = [x.clone() for x in arguments]
        changed[index][..., 500:] += 1
        after = selective_scan(*changed, delta_softplus=True, chunk=chunk)
        assert torch.equal(after[..., :500], before[..., :500])
        assert not torch.equal(after[..., 500:], before[..., 500:])


@pytest.mark.parametrize("chunk", [None, 64])
def test_steps_of_fifty_and_rates_of_minus_sixteen_stay_finite_and_exact(chunk):
    length, channels, states = 4096, 4, 16
    generator = torch.Generator().manual_seed(3)
    u = torch.randn(1, channels, length, generator=generator)
    delta = 50 * torch.rand(1, channels, length, generator=generator) ** 4
    rates = -torch.arange(1.0, states + 1).repeat(channels, 1)
    weights = [torch.randn(1, states, length, generator=generator) for _ in range(2)]
    arguments = [x.requires_grad_() for x in (u, delta, rates, *weights)]
    y = selective_scan(*arguments, chunk=chunk)
    gradients = torch.autograd.grad(y.sum(), arguments)
    assert all(torch.isfinite(x).all() for x in (y, *gradients))
    wide = [x.detach().double() for x in arguments]
    assert relative_error([y.detach().double()], [selective_scan_reference(*wide)]) < 1e-6


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation hands out."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [x.untyped_storage().nbytes() // x.element_size() for x in tree_leaves(result) if torch.is_tensor(x)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("chunk", [None, 64])
def test_inference_equals_training_and_never_holds_the_states_of_all_steps(monkeypatch, chunk):
    monkeypatch.setattr(scan_recurrence, "_BLOCK_ELEMENTS", 4096)
    length, channels, states = 2048, 16, 16
    arguments = problem(length, batch=1, channels=channels, states=states)[:5]
    arguments[1] = arguments[1].detach().abs()
    in_training = selective_scan(*arguments, chunk=chunk)
    with torch.no_grad(), LargestTensor() as largest:
        in_inference = selective_scan(*arguments, chunk=chunk)
    assert torch.equal(in_inference, in_training.detach())
    assert largest.elements <= 2 * length * channels
    with LargestTensor() as largest:
        selective_scan(*arguments, chunk=chunk).sum().backward()
    assert largest.elements <= length * channels * states / 4


def test_the_scan_stays_in_float32_under_autocast():
    arguments = [x.detach() for x in problem(65)]
    wanted = selective_scan(*arguments, delta_softplus=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(selective_scan(*arguments, delta_softplus=True), wanted)
        assert selective_scan(arguments[0].bfloat16(), *arguments[1:]).dtype == torch.bfloat16


def test_gradients_stay_in_float32_under_autocast():
    arguments = problem(65)
    wanted = output_and_gradients(selective_scan, arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = output_and_gradients(selective_scan, arguments)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_a_single_group_may_leave_out_its_axis():
    u, delta, rates, weight_in, weight_out = (x.detach() for x in problem(33, groups=1)[:5])
    with_axis = selective_scan(u, delta.abs(), rates, weight_in, weight_out)
    assert torch.equal(selective_scan(u, delta.abs(), rates, weight_in[:, 0], weight_out[:, 0]), with_axis)


def test_one_step_on_paper():
    one = torch.ones(1, 1, 1)
    y = selective_scan(2 * one, 3 * one, -one[0], 5 * one, 7 * one, torch.tensor([11.0]))
    assert y.item() == 7 * (3 * 2 * 5) + 11 * 2


def test_time_major_and_batch_major_calls_agree():
    u, delta, rates, weight_in, weight_out = (x.detach() for x in problem(33)[:5])
    wanted = selective_scan(u, delta.abs(), rates, weight_in, weight_out)
    grouped = [x.unflatten(1, (2, 3)).permute(3, 0, 1, 2) for x in (u, delta.abs())]
    weights = [x.permute(3, 0, 1, 2) for x in (weight_in, weight_out)]
    y = scan_time_major(*grouped, rates.unflatten(0, (2, 3)), *weights)
    assert torch.equal(y.permute(1, 2, 3, 0).flatten(1, 2), wanted)


@pytest.mark.parametrize(("index", "axis"), [(1, 2), (2, 0), (3, 3), (4, 1)])
def test_disagreeing_shapes_are_named(index, axis):
    arguments = [x.detach() for x in problem(9)[:5]]
    arguments[index] = arguments[index].narrow(axis, 0, 1)
    with pytest.raises(ValueError, match="allowed are u and delta"):
        selective_scan(*arguments)


def test_the_accelerators_self_test_accepts_a_right_kernel_and_refuses_wrong_ones():
    def broken(*_):
        raise RuntimeError("no kernel image is available for execution on the device")

    def without_gradient_of_rates(u, delta, rates, *rest):
        return selective_scan_reference(u, delta, rates.detach() + 0 * rates, *rest)

    assert module._accelerator_agrees(selective_scan_reference, "cpu")
    with torch.inference_mode():
        assert module._accelerator_agrees(selective_scan_reference, "cpu")
    assert not module._accelerator_agrees(lambda *x: selective_scan_reference(*x) * 1.1, "cpu")
    assert not module._accelerator_agrees(without_gradient_of_rates, "cpu")
    assert not module._accelerator_agrees(broken, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("chunk", [None, 64])
def test_the_scan_on_a_gpu_equals_the_scan_on_the_cpu(chunk):
    arguments = problem(777)
    wanted = output_and_gradients(selective_scan_reference, arguments)
    there = [x.detach().cuda().requires_grad_() for x in arguments]
    y = selective_scan(*there, delta_softplus=True, chunk=chunk)
    assert torch.allclose(y.cpu(), wanted[0], rtol=6e-4, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", [64, 777])
def test_mambas_own_kernel_is_used_where_it_is_installed_and_equals_ours(length, groups):
    """In values and gradients, with the tolerances of the package's own test."""
    if importlib.util.find_spec("mamba_ssm") is None or not torch.cuda.is_available():
        pytest.skip("mamba-ssm and a CUDA device are not both here")
    assert module._accelerator() is not None, "mamba-ssm is installed, and its kernel is not used"
    arguments = [x.detach().cuda().requires_grad_() for x in problem(length, groups=groups, channels=16, states=8)]
    ours = output_and_gradients(selective_scan, arguments, chunk=64)
    kernel = output_and_gradients(selective_scan, arguments)
    for a, b in zip(kernel, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=6e-4, atol=2e-3)
