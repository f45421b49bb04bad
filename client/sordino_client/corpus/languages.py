"""Finds the source language of a file by its name; of a program without a suffix, by its first line.

Prose and data (Markdown, JSON, CSV, SVG, lock files) are no source language here: a completion model gains little from
them, and they are where personal data sits.
"""

from __future__ import annotations

import re

# Language -> suffixes and, without a leading dot, whole file names.
LANGUAGES: dict[str, tuple[str, ...]] = {
    "Ada": (".adb", ".ads"),
    "Assembly": (".asm", ".s"),
    "C": (".c", ".h"),
    "C#": (".cs", ".csx"),
    "C++": (
        ".cc",
        ".cpp",
        ".cxx",
        ".c++",
        ".hh",
        ".hpp",
        ".hxx",
        ".h++",
        ".ipp",
        ".inl",
        ".tpp",
        ".cu",
        ".cuh",
    ),
    "CMake": (".cmake", "cmakelists.txt"),
    "CSS": (".css", ".scss", ".sass", ".less"),
    "Clojure": (".clj", ".cljs", ".cljc"),
    "COBOL": (".cob", ".cbl"),
    "Cython": (".pyx", ".pxd", ".pxi"),
    "D": (".d",),
    "Dart": (".dart",),
    "Dockerfile": (".dockerfile", "dockerfile", "containerfile"),
    "Elixir": (".ex", ".exs"),
    "Elm": (".elm",),
    "Erlang": (".erl", ".hrl"),
    "F#": (".fs", ".fsi", ".fsx"),
    "Fortran": (".f", ".f90", ".f95", ".f03", ".f08", ".for"),
    "GLSL": (".glsl", ".vert", ".frag", ".comp", ".hlsl", ".wgsl"),
    "Go": (".go",),
    "GraphQL": (".graphql", ".gql"),
    "Groovy": (".groovy", ".gradle", ".gvy", "jenkinsfile"),
    "HCL": (".tf", ".hcl"),
    "HTML": (".html", ".htm", ".xhtml", ".jinja", ".jinja2", ".j2", ".hbs", ".mustache"),
    "Haskell": (".hs", ".lhs"),
    "Java": (".java",),
    "JavaScript": (".js", ".jsx", ".mjs", ".cjs"),
    "Julia": (".jl",),
    "Kotlin": (".kt", ".kts"),
    "Lisp": (".lisp", ".lsp", ".el", ".cl"),
    "Lua": (".lua",),
    "Makefile": (".mk", ".mak", "makefile", "gnumakefile"),
    "Meson": ("meson.build",),
    "Nim": (".nim",),
    "Nix": (".nix",),
    "OCaml": (".ml", ".mli"),
    "Objective-C": (".m", ".mm"),  # MATLAB shares the first
    "PHP": (".php",),
    "Pascal": (".pas", ".pp", ".dpr"),
    "Perl": (".pl", ".pm", ".t"),
    "PowerShell": (".ps1", ".psm1", ".psd1"),
    "Prolog": (".pro", ".prolog"),
    "Protocol Buffers": (".proto", ".thrift"),
    "Python": (".py", ".pyi", ".pyw", "sconstruct", "sconscript", "wscript"),
    "R": (".r", ".rmd"),
    "Racket": (".rkt", ".scm", ".ss"),
    "Ruby": (".rb", ".rake", ".gemspec", "rakefile", "gemfile", "vagrantfile"),
    "Rust": (".rs",),
    "SQL": (".sql", ".psql", ".plsql"),
    "Scala": (".scala", ".sc", ".sbt"),
    "Shell": (".sh", ".bash", ".zsh", ".ksh", ".fish", ".bats"),
    "Solidity": (".sol",),
    "Starlark": (".bzl", ".bazel", "build.bazel", "workspace.bazel"),
    "Svelte": (".svelte",),
    "Swift": (".swift",),
    "TOML": (".toml",),
    "Tcl": (".tcl",),
    "TypeScript": (".ts", ".tsx", ".mts", ".cts"),
    "VHDL": (".vhd", ".vhdl"),
    "Verilog": (".v", ".sv", ".svh"),
    "Visual Basic": (".vb", ".vbs", ".bas"),
    "Vue": (".vue",),
    "YAML": (".yml", ".yaml"),
    "Zig": (".zig",),
}

_BY_SUFFIX = {key: name for name, keys in LANGUAGES.items() for key in keys if key.startswith(".")}
_BY_NAME = {key: name for name, keys in LANGUAGES.items() for key in keys if not key.startswith(".")}
_INTERPRETERS = {
    "bash": "Shell", "dash": "Shell", "fish": "Shell", "ksh": "Shell", "sh": "Shell", "zsh": "Shell",
    "python": "Python", "node": "JavaScript", "deno": "TypeScript", "perl": "Perl", "ruby": "Ruby", "php": "PHP",
    "lua": "Lua", "Rscript": "R", "tclsh": "Tcl", "groovy": "Groovy", "julia": "Julia", "escript": "Erlang",
}  # fmt: skip
_SHEBANG = re.compile(rb"#![ \t]*(?:\S*/)?([^/\s]+)(?:[ \t]+(?:-\S+[ \t]+)*([^\s/]+))?")


def by_name(path: str) -> str | None:
    """The language of a file by its name, or None when its name tells nothing."""
    name = path[path.rfind("/") + 1 :].lower()
    dot = name.rfind(".")
    return _BY_NAME.get(name) or (_BY_SUFFIX.get(name[dot:]) if dot > 0 else None)


def has_suffix(path: str) -> bool:
    """Whether the file's name has a suffix; a dot file such as `.profile` has none."""
    return path.rfind(".") > path.rfind("/") + 1


def by_first_line(content: bytes) -> str | None:
    """The language of a script by its `#!` line (`env` is looked through), or None."""
    found = _SHEBANG.match(content[:256])
    if found is None:
        return None
    program = found[2] if found[1] == b"env" and found[2] else found[1]
    return _INTERPRETERS.get(program.decode("latin-1").rstrip("0123456789."))
