"""Languages that were never used to improve the rules for secrets: so the misses here are typical of other
languages."""

from __future__ import annotations

from sordino_client.laboratory.secrets_benchmark.contexts import Language

HELDOUT: tuple[Language, ...] = (
    Language(
        name="Lua",
        suffix=".lua",
        before="local M = {}\n\nfunction M.total(values)\n  local sum = 0\n  for _, value in ipairs(values) do\n    sum = sum + value\n  end\n  return sum\nend\n\n",
        after="\n\nreturn M\n",
        templates=(
            "local $snake = '$V'",
            'M.$snake = "$V"',
            '["$kebab"] = "$V",',
            "local $snake = os.getenv('$UPPER') or '$V'",
            'ngx.req.set_header("$kebab", "$V")',
            "$snake = [[$V]]",
        ),
        calls=('client:auth("svc-report", "$V")',),
        blocks=("local $snake = [[\n$V\n]]",),
    ),
    Language(
        name="Elixir",
        suffix=".ex",
        before="defmodule Ledger do\n  def total(values) do\n    Enum.sum(values)\n  end\n\n  def mean(values) do\n    total(values) / max(length(values), 1)\n  end\n",
        after="\nend\n",
        templates=(
            '  @$snake "$V"',
            'config :ledger, Ledger.Repo, $snake: "$V"',
            '  $snake = System.get_env("$UPPER") || "$V"',
            '  $snake = System.get_env("$UPPER", "$V")',
            '  %{"$camel" => "$V", "retries" => 3}',
            '  Application.put_env(:ledger, :$snake, "$V")',
        ),
        blocks=('  @$snake """\n$V\n"""',),
    ),
    Language(
        name="Dart",
        suffix=".dart",
        before="class Ledger {\n  int total = 0;\n\n  int add(int amount) {\n    total += amount;\n    return total;\n  }\n}\n\n",
        after="\n\nbool empty(List<int> values) => values.isEmpty;\n",
        templates=(
            "final $camel = '$V';",
            "static const String $camel = '$V';",
            "const $camel = String.fromEnvironment('$UPPER', defaultValue: '$V');",
            "headers: {'$kebab': '$V'},",
            "Client($camel: '$V');",
            "late final String? $camel = '$V';",
        ),
        calls=("await auth.signInWithEmailAndPassword(email: 'svc@example.org', password: '$V');",),
        blocks=("const $camel = '''\n$V\n''';",),
    ),
    Language(
        name="Groovy",
        suffix=".gradle",
        before="plugins {\n    id 'java'\n}\n\ndef total(values) {\n    values.sum()\n}\n\nrepositories {\n    mavenCentral()\n}\n\n",
        after="\n\ntask report { doLast { println total([1, 2, 3]) } }\n",
        templates=(
            "def $camel = '$V'",
            "ext.$camel = '$V'",
            "$camel '$V'",
            'systemProperty "app.$kebab", "$V"',
            "environment '$UPPER', '$V'",
            "withEnv(['$UPPER=$V']) { sh 'make deploy' }",
        ),
        calls=("credentials { username 'svc'; password '$V' }",),
    ),
    Language(
        name="HTML",
        suffix=".html",
        before='<!doctype html>\n<html>\n<body>\n<h1>Ledger</h1>\n<p>The total of every account, by day and by month.</p>\n<table id="total"></table>\n',
        after="\n<footer>Accounts and reports</footer>\n</body>\n</html>\n",
        templates=(
            '<input type="hidden" name="$snake" value="$V">',
            '<meta name="$kebab" content="$V">',
            "<$camel>$V</$camel>",
            '<add key="$Pascal" value="$V" />',
            '<div data-$kebab="$V"></div>',
            "<script>window.$camel = '$V';</script>",
            "<!-- $V -->",
        ),
    ),
    Language(
        name="Makefile",
        suffix=".mk",
        before="SOURCES := $(wildcard *.c)\nCC ?= gcc\n\nall: ledger\n\nledger: $(SOURCES)\n\t$(CC) -O2 -o $@ $^\n\ntotal:\n\t./ledger --total\n\n",
        after="\n\nclean:\n\trm -f ledger\n",
        templates=(
            "$UPPER = $V",
            "$UPPER := $V",
            "$UPPER ?= $V",
            "export $UPPER = $V",
            "deploy:\n\t$UPPER=$V ./deploy.sh",
            "deploy:\n\t./deploy.sh --$kebab $V",
        ),
    ),
    Language(
        name="R",
        suffix=".r",
        before="total <- function(values) {\n  sum(values)\n}\n\nmean_of <- function(values) {\n  total(values) / max(length(values), 1)\n}\n\nrows <- data.frame(id = 1:3)\n\n",
        after="\n\nprint(total(c(1, 2, 3)))\n",
        templates=(
            '$snake <- "$V"',
            "Sys.setenv($UPPER = '$V')",
            'options($snake = "$V")',
            '$snake <- Sys.getenv("$UPPER", unset = "$V")',
            'add_headers(`$kebab` = "$V")',
        ),
        calls=('dbConnect(driver, user = "svc_report", password = "$V")',),
    ),
    Language(
        name="Haskell",
        suffix=".hs",
        before="module Ledger where\n\ntotal :: [Int] -> Int\ntotal values = sum values\n\nmean :: [Int] -> Int\nmean values = total values `div` max 1 (length values)\n\n",
        after="\n\nempty :: [Int] -> Bool\nempty = null\n",
        templates=(
            '$camel :: String\n$camel = "$V"',
            'settings = Settings { $camel = "$V", retries = 3 }',
            '$camel <- fromMaybe "$V" <$> lookupEnv "$UPPER"',
            'setEnv "$UPPER" "$V"',
        ),
    ),
)
