"""The fast way to compute a step computes the same step."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from sordino_client.laboratory.pretrain.compute import Compute, blocked_attention
from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Decoder, causal_attention
from sordino_privacy.errors import ConfigurationError

CONFIG = ModelConfig(vocabulary=64, context=32, layers=2, heads=2, width=16, hidden=32)


@pytest.mark.parametrize("time", [1, 255, 256, 257, 600])
def test_written_out_attention_is_torchs_own(time: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, time, 8, requires_grad=True) for _ in range(3)]
    ours, theirs = blocked_attention(*inputs), causal_attention(*inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(ours)
    for mine, reference in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)


def test_a_device_that_is_not_here_is_refused_and_auto_takes_what_is() -> None:
    here = Compute.of_this_machine("auto")
    for device, available in (
        ("cuda", torch.cuda.is_available()),
        ("mps", torch.backends.mps.is_available()),
    ):
        if not available:
            assert here.device != device
            with pytest.raises(ConfigurationError, match=f"no device '{device}'"):
                Compute.of_this_machine(device)
    assert Compute.of_this_machine("cpu").device == "cpu"
    with pytest.raises(ConfigurationError, match="no device 'tpu'"):
        Compute.of_this_machine("tpu")


def test_products_are_taken_in_bfloat16_only_where_the_processor_multiplies_it_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for able in ({}, {"avx512_f": True}, {"avx512_bf16": True}, {"amx_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        found = Compute.of_this_machine("cpu")
        fast = bool({"avx512_bf16", "amx_bf16"} & set(able)) and shutil.which("g++") is not None
        assert (found.half, found.compiled) == (fast, fast)
        assert found.matrix_precision == (torch.bfloat16 if fast else torch.float32)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses torch.jit
def test_a_compiled_bfloat16_step_has_the_plain_steps_loss_and_gradient() -> None:
    plain, fast = Compute(compiled=False, half=False), Compute(compiled=True, half=True)
    torch.manual_seed(0)
    reference, model = plain.decoder(CONFIG), fast.decoder(CONFIG)
    model.load_state_dict(reference.state_dict())
    windows = torch.from_numpy(np.random.default_rng(0).integers(0, 64, (4, 33)))
    values = []
    for compute, decoder in ((plain, reference), (fast, model)):
        value = compute.window_loss(decoder)(windows)
        value.backward()  # type: ignore[no-untyped-call]
        values.append(float(value.detach()))
    assert values[1] == pytest.approx(values[0], rel=1e-2)
    assert (
        _gradient(model) @ _gradient(reference) > 0.99 * _gradient(model).norm() * _gradient(reference).norm()
    )


def _gradient(model: Decoder) -> torch.Tensor:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
