"""Peers measured in the same run, each in a separate process: eager torch, and llama.cpp if it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sordino_platform.architecture import SIZES

PAST, TOKENS, PROMPT, LINE = 400, 40, 480, 20
PEERS_PACKAGES = ("xllamacpp", "gguf")
# For a file whose sizes are not read: less than any base has.
FILE_CONTEXT, FILE_TOKENS = 1024, 30_000


def torch_eager(size: str, *, ours: float, ours_cold: float) -> dict[str, Any]:
    """The same network in eager torch, one thread. `ours`: ms per token; `ours_cold`: ms per 512 prompt tokens."""
    token, cold = json.loads(_child("torch_child", size))
    return {
        f"torch_eager_token_ms_{size}": token,
        f"torch_eager_cold512_ms_{size}": cold,
        f"speedup_vs_torch_eager_{size}": round(token / ours, 2),
        f"speedup_cold512_vs_torch_eager_{size}": round(cold / ours_cold, 2),
    }


def llamacpp(size: str, *, ours: float, ours_cold: float) -> dict[str, Any]:
    """A llama with as many parameters in llama.cpp (q8_0, one thread), which has no architecture with our norms."""
    name = f"ratio_vs_llamacpp_{size}"
    missing = [package for package in PEERS_PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        return {name: None, f"{name}_reason": f"not installed: {', '.join(missing)}"}
    try:
        token, cold = json.loads(_child("llamacpp_child", size))
    except (subprocess.CalledProcessError, ValueError):
        return {name: None, f"{name}_reason": "llama.cpp does not run on this machine"}
    return {
        f"llamacpp_token_ms_{size}": token,
        f"llamacpp_cold512_ms_{size}": cold,
        name: round(token / ours, 2),
        f"ratio_cold512_vs_llamacpp_{size}": round(cold / ours_cold, 2),
    }


def _child(function: str, size: str) -> str:
    """Runs a function of this module in a new process, because no peer may share the measured one. Returns its last
    line.
    """
    program = f"from sordino_client.laboratory.completion_benchmark import peers; peers.{function}({size!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip().rsplit("\n", 1)[-1]


def torch_child(size: str) -> None:
    """Prints [milliseconds per token with a key-value cache, milliseconds per 512 prompt tokens]."""
    import torch
    import torch.nn.functional as F

    from sordino_platform.model import Block, Decoder, rotate

    torch.set_num_threads(1)
    config = SIZES[size]
    model = Decoder(config).eval()
    head = config.width // config.heads
    caches = [torch.randn(2, config.heads, PAST + TOKENS, head) for _ in range(config.layers)]

    def step(token: int, at: int) -> None:
        cos, sin = model.cos[at : at + 1], model.sin[at : at + 1]
        x = model.norm_in(model.embed(torch.tensor([token])))
        for block, cache in zip(model.blocks, caches, strict=True):
            assert isinstance(block, Block)
            split = (
                block.query_key_value(block.norm_attention(x))
                .view(1, 3, config.heads, head)
                .permute(1, 2, 0, 3)
            )
            q, k = (rotate(F.rms_norm(split[n], (head,), eps=1e-6), cos, sin) for n in (0, 1))
            cache[0, :, at : at + 1], cache[1, :, at : at + 1] = k, split[2]
            mixed = F.scaled_dot_product_attention(
                q[None], cache[0, None, :, : at + 1], cache[1, None, :, : at + 1]
            )
            x = x + block.attention_out(mixed.transpose(1, 2).reshape(1, config.width))
            x = x + block.contract(F.relu(block.expand(block.norm_network(x))).square())
        model.embed.logits(model.norm_out(x)).argmax()

    prompt = torch.randint(4, config.vocabulary, (1, PROMPT))
    steps, prompts = [], []
    with torch.inference_mode():
        step(5, PAST - 1)
        for n in range(TOKENS):
            started = time.perf_counter()
            step(5, PAST + n)
            steps.append(time.perf_counter() - started)
        for _ in range(4):
            started = time.perf_counter()
            model(prompt)
            prompts.append(time.perf_counter() - started)
    _report(steps, prompts)


def llamacpp_child(size: str) -> None:
    """Prints the figures of `torch_child`, for a llama.cpp server in this process."""
    with tempfile.TemporaryDirectory(prefix="sordino-bench-") as folder:
        path = Path(folder) / "model.gguf"
        _write_llama(path, size)
        _serve_llamacpp(str(path), context=SIZES[size].context, vocabulary=SIZES[size].vocabulary)


def _serve_llamacpp(path: str, *, context: int, vocabulary: int) -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx, parameters.n_parallel = context, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    random = np.random.default_rng(0)
    steps, prompts = [], []
    for _ in range(5):
        request = {
            "prompt": random.integers(300, vocabulary, PROMPT).tolist(),
            "n_predict": LINE,
            "ignore_eos": True,
            "temperature": 0,
        }
        timings = server.handle_completions(request)["timings"]
        steps.append(timings["predicted_per_token_ms"] / 1000)
        prompts.append(timings["prompt_per_token_ms"] * PROMPT / 1000)
    _report(steps[1:], prompts[1:])


def llamacpp_file(path: Path) -> dict[str, Any]:
    """A GGUF file in a llama.cpp server (own process, one thread): ms per token, ms per 512 prompt tokens."""
    missing = [package for package in PEERS_PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        return {"llamacpp_reason": f"not installed: {', '.join(missing)}"}
    program = f"import sys; from {__name__} import llamacpp_file_child as f; f(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        token, cold = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    except ValueError:
        return {"llamacpp_reason": "llama.cpp does not read this base"}
    return {"llamacpp_token_ms": token, "llamacpp_cold512_ms": cold}


def llamacpp_file_child(path: str) -> None:
    """Prints the figures of `torch_child`, for a llama.cpp server on that file in this process."""
    _serve_llamacpp(path, context=FILE_CONTEXT, vocabulary=FILE_TOKENS)


def _report(steps: list[float], prompts: list[float]) -> None:
    token, cold = 1000 * np.median(steps), 1000 * np.median(prompts) * 512 / PROMPT
    print(json.dumps([round(float(token), 2), round(float(cold), 1)]))  # noqa: T201


def _write_llama(path: Path, size: str) -> None:
    """A llama with random q8_0 weights and our widths. Its MLP's three matrices have as many weights as our two."""
    import gguf

    config, random = SIZES[size], np.random.default_rng(0)
    hidden = 2 * config.hidden // 3 // 32 * 32
    kind = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(config.width // config.heads)
    writer.add_vocab_size(config.vocabulary)
    special = [b"<unk>", b"<s>", b"</s>"]
    bytes_ = [f"<0x{n:02X}>".encode() for n in range(256)]
    words = [f"w{n}".encode() for n in range(config.vocabulary - len(special) - len(bytes_))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(special + bytes_ + words)
    writer.add_token_scores([-float(n) for n in range(config.vocabulary)])
    types = gguf.TokenType
    writer.add_token_types(
        [types.UNKNOWN, types.CONTROL, types.CONTROL]
        + [types.BYTE] * len(bytes_)
        + [types.NORMAL] * len(words)
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.standard_normal((rows, columns), np.float32) * np.float32(0.05)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    matrix("token_embd.weight", config.vocabulary, config.width)
    writer.add_tensor("output_norm.weight", np.ones(config.width, np.float32))
    for layer in range(config.layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(config.width, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}{part}.weight", config.width, config.width)
        for part in ("ffn_gate", "ffn_up"):
            matrix(f"{block}{part}.weight", hidden, config.width)
        matrix(f"{block}ffn_down.weight", config.width, hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
