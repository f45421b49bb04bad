"""Licence headers go, everything else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.corpus.licence import is_licence_name, strip_header

CODE = "import os\n\n\ndef run():\n    # a remark on copyright law\n    return os.name\n"
APACHE = "Licensed under the Apache License, Version 2.0\nyou may not use this file"


def commented(text: str, mark: str) -> str:
    return "\n".join(f"{mark} {line}" for line in text.split("\n"))


@pytest.mark.parametrize(
    "header",
    [
        commented(APACHE, "#"),
        commented(APACHE, "//"),
        commented(APACHE, "--"),
        commented(APACHE, ";"),
        "/*\n" + commented(APACHE, " *") + "\n */",
        "/* Copyright 2024 Someone. All rights reserved. */",
        "<!--\n" + APACHE + "\n-->",
        '"""\n' + APACHE + '\n"""',
        "(* SPDX-License-Identifier: MIT *)",
        "# SPDX-License-Identifier: MIT",
        "// Copyright (c) 2020 A\n\n/*\n * Permission is hereby granted, free of charge\n */",
    ],
)
def test_a_licence_header_is_taken_off(header: str) -> None:
    assert strip_header(header + "\n\n" + CODE) == CODE


@pytest.mark.parametrize(
    "first", ["#!/usr/bin/env python3", "# -*- coding: utf-8 -*-", "<?php", "<!DOCTYPE html>"]
)
def test_lines_that_must_come_first_stay(first: str) -> None:
    assert strip_header(f"{first}\n{commented(APACHE, '#')}\n{CODE}") == f"{first}\n{CODE}"


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        "# What this module is for.\n" + CODE,
        '"""What this module is for."""\n' + CODE,
        "/* Adds two numbers. */\nint add(int a, int b);\n",
        "/* Copyright 2024 */ int x;\n" + CODE,
        'NOTICE = "Copyright 2024"\n' + CODE,
        "/* Copyright 2024, and never closed\n" + CODE,
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert strip_header(text) == text


def test_a_comment_behind_the_licence_stays() -> None:
    assert strip_header("// Copyright 2024 A\n\n// Adds numbers.\n" + CODE) == "// Adds numbers.\n" + CODE


@given(
    st.lists(
        st.sampled_from(
            ["# Copyright 2024", "", "# text", "/*", "*/", "x = 1", "#!sh", '"""', "// (c) 2020 A"]
        )
    )
)
def test_stripping_twice_changes_nothing_more(lines: list[str]) -> None:
    once = strip_header("\n".join(lines))
    assert strip_header(once) == once
    assert set(once.split("\n")) <= {*lines, ""}


@pytest.mark.parametrize(
    "path", ["LICENSE", "LICENSE.txt", "licence-mit.md", "docs/COPYING", "NOTICE", "UNLICENSE"]
)
def test_licence_texts_are_known_by_name(path: str) -> None:
    assert is_licence_name(path)


@pytest.mark.parametrize(
    "path", ["license.py", "licenses/main.go", "copy.py", "notice_board.py", "license_check.rs"]
)
def test_source_files_about_licences_are_not(path: str) -> None:
    assert not is_licence_name(path)
