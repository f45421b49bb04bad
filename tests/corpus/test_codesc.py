"""CoDesc's JSON, whole and in pieces."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.corpus import ExclusionReason, codesc, read_repositories
from sordino_client.corpus.codesc import Method, read_methods
from sordino_privacy.errors import DataError

METHOD = "public int add(int first, int second) {\n    return first + second;\n}"
RECORD: dict[str, Any] = {
    "id": 7,
    "src": "CodeSearchNet-Java",
    "src_div": "train",
    "src_idx": 12,
    "code": "public int add ( int first , int second ) { return first + second ; }",
    "nl": "adds two numbers",
    "original_code": METHOD,
    "original_nl": "Adds two numbers.\n@return the sum",
    "partition": "train",
}
TEXT = "/**\n * Adds two numbers.\n * @return the sum\n */\n" + METHOD + "\n"


def methods(path: Path) -> list[Method | ExclusionReason]:
    return list(read_methods(path, maximum_bytes=100_000))


def test_the_published_format_becomes_java_with_javadoc(tmp_path: Path) -> None:
    (tmp_path / "CoDesc.json").write_text(json.dumps([RECORD], indent=2))
    assert methods(tmp_path / "CoDesc.json") == [Method(path="CodeSearchNet-Java/train/7.java", text=TEXT)]


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.json.gz"])
def test_json_lines_and_gzip_are_read_too(tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps({**RECORD, "id": i}) + "\n" for i in range(3))
    data = gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode()
    (tmp_path / name).write_bytes(data)
    assert [method.path for method in methods(tmp_path / name) if isinstance(method, Method)] == [
        f"CodeSearchNet-Java/train/{i}.java" for i in range(3)
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"code": METHOD}, Method(path="records/0.java", text=METHOD + "\n")),
        ({"code": ["return", "x", ";"], "docstring": ""}, Method(path="records/0.java", text="return x ;\n")),
        (
            {
                "original_string": METHOD,
                "code": "other",
                "docstring": "// Adds.",
                "partition": "test",
                "id": "a/../b",
            },
            Method(path="test/a-..-b.java", text="// Adds.\n" + METHOD + "\n"),
        ),
        ({"code": "  ", "nl": "words"}, ExclusionReason.UNREADABLE),
        ({"code": 7}, ExclusionReason.UNREADABLE),
        ({"nl": "words"}, ExclusionReason.UNREADABLE),
        (["code"], ExclusionReason.UNREADABLE),
        ("code", ExclusionReason.UNREADABLE),
        ({"code": "x" * 200_000}, ExclusionReason.SIZE),
        ({"code": "a\0b"}, ExclusionReason.BINARY),
        (
            {"code": "f();", "nl": "ends */ here"},
            Method(path="records/0.java", text="/**\n * ends * / here\n */\nf();\n"),
        ),
    ],
)
def test_each_kind_of_record_has_its_rule(
    tmp_path: Path, record: object, expected: Method | ExclusionReason
) -> None:
    (tmp_path / "x.json").write_text(json.dumps([record]))
    assert methods(tmp_path / "x.json") == [expected]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    values=st.lists(VALUES, max_size=6),
    indent=st.sampled_from([None, 2]),
    chunk=st.integers(1, 40),
    lines=st.booleans(),
)
def test_values_are_the_same_however_the_file_is_cut_into_chunks(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[object],
    indent: int | None,
    chunk: int,
    lines: bool,
) -> None:
    path = tmp_path_factory.mktemp("codesc") / "x.json"
    values = [{"value": value} for value in values]
    path.write_text("\n".join(map(json.dumps, values)) if lines else json.dumps(values, indent=indent))
    with pytest.MonkeyPatch.context() as patch, path.open() as stream:
        patch.setattr(codesc, "_CHUNK", chunk)
        assert list(codesc._records(stream, path)) == values


@pytest.mark.parametrize(
    "text", ['[{"code": "a"', '[{"code": "a"} {]', "{'code': 1}", "[[[", '["a", nonsense]']
)
def test_what_is_not_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"^\S*x\.json is not a JSON array or JSON Lines$"):
        methods(tmp_path / "x.json")


def test_json_that_nests_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match="nests JSON too deeply"):
        methods(tmp_path / "x.json")


def test_damaged_compression_is_one_line(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps([RECORD] * 50).encode())
    for damaged in (whole[:40], b"no gzip at all"):
        (tmp_path / "x.json.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="its compression is damaged"):
            methods(tmp_path / "x.json.gz")


def test_text_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'[{"code": "\xff"}]')
    with pytest.raises(DataError, match="it is not UTF-8"):
        methods(tmp_path / "x.json")


def test_methods_become_a_corpus_like_any_other(tmp_path: Path) -> None:
    token = "ghp_" + "q7Zt2Lm9Xw4Rb6Kp1Vn8Yc3Hd5Gf0JsTq7Zt"
    records = [
        RECORD,
        {**RECORD, "id": 8},
        {**RECORD, "id": 9, "original_code": METHOD.replace("add", "sum")},
        {**RECORD, "id": 10, "original_code": f'{METHOD}String key() {{ return "{token}"; }}'},
        {"nothing": "here"},
    ]
    (tmp_path / "CoDesc.json").write_text(json.dumps(records))
    corpus = read_repositories([tmp_path / "CoDesc.json"])
    assert [file.path for file in corpus.files] == [
        "CodeSearchNet-Java/train/10.java",
        "CodeSearchNet-Java/train/7.java",
        "CodeSearchNet-Java/train/9.java",
    ]
    assert corpus.excluded == {ExclusionReason.DUPLICATE: 1, ExclusionReason.UNREADABLE: 1}
    assert not [file for file in corpus.files if token in file.text]
    assert set(corpus.languages) == {"Java"}


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(DataError, match="neither a folder nor a CoDesc file"):
        read_repositories([tmp_path / "x.json"])


def test_a_json_file_without_methods_is_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x"}')
    with pytest.raises(DataError, match="1 excluded: 1 unreadable"):
        read_repositories([tmp_path / "package.json"])
