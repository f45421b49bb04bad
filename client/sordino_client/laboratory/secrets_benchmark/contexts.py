"""Where credentials stand in code: templates by language.

In a template `$V` is the literal's text and `$snake`, `$camel`, `$Pascal`, `$UPPER` or `$kebab` the name that holds
it. A template without a name takes only values that are known by their own shape, unless it is a `call` whose own
words say what its argument is. `block` templates may hold a value over several lines.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTemplate:
    """One template. `number` is its place among those of its language."""

    language: str
    number: int
    template: str
    block: bool
    call: bool

    @property
    def name(self) -> str:
        """Language and number: unique."""
        return f"{self.language}-{self.number}"

    @property
    def named(self) -> bool:
        """Whether a name in the template says what the value is."""
        return any(mark in self.template for mark in ("$snake", "$camel", "$Pascal", "$UPPER", "$kebab"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language's suffix (or whole file name), what stands around a planted line, and its templates."""

    name: str
    suffix: str
    before: str
    after: str
    templates: tuple[str, ...]
    calls: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()

    @property
    def contexts(self) -> tuple[CodeTemplate, ...]:
        """The templates in their order: single lines, calls, blocks."""
        kinds = [(t, False, False) for t in self.templates]
        kinds += [(t, False, True) for t in self.calls] + [(t, True, False) for t in self.blocks]
        return tuple(
            CodeTemplate(language=self.name, number=n, template=t, block=block, call=call)
            for n, (t, block, call) in enumerate(kinds)
        )


# Written after the rules were, and never used to mend them: what they miss here is what they miss elsewhere.
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


LANGUAGES: tuple[Language, ...] = (
    Language(
        name="Python",
        suffix=".py",
        before="import os\n\n\ndef total(values):\n    result = 0\n    for value in values:\n        result += value\n    return result\n\n\n",
        after="\n\ndef mean(values):\n    return total(values) / max(len(values), 1)\n",
        templates=(
            '$snake = "$V"',
            "$UPPER = '$V'",
            '$snake: str = "$V"',
            '$UPPER: Final[str] = "$V"',
            "$snake = b'$V'",
            'settings = {"host": "db.internal", "$snake": "$V", "retries": 3}',
            'client = connect(host, $snake="$V", timeout=5)',
            '$UPPER = os.environ.get("$UPPER", "$V")',
            '$snake = os.getenv("$UPPER") or "$V"',
            'os.environ["$UPPER"] = "$V"',
            "self._$snake = '$V'  # staging",
            'def connect(host, $snake="$V"):\n    return open_session(host, $snake)',
            'parser.add_argument("--$kebab", default="$V")',
            '$snake = config.get("$snake", fallback="$V")',
            'request = build("GET", "/items", "$V")',
            "# the staging instance still takes $V",
            'KNOWN = ["first", "$V", "second"]',
        ),
        calls=('session.auth = ("svc-report", "$V")', 'client.login("svc-report", "$V")'),
        blocks=('$UPPER = """$V"""', '$snake = textwrap.dedent("""\\\n$V\n""")'),
    ),
    Language(
        name="Java",
        suffix=".java",
        before="package org.example.ledger;\n\npublic class Ledger {\n    private int total;\n\n    public int add(int amount) {\n        total += amount;\n        return total;\n    }\n\n",
        after="\n    public int total() {\n        return total;\n    }\n}\n",
        templates=(
            'String $camel = "$V";',
            'private static final String $UPPER = "$V";',
            'properties.setProperty("$kebab", "$V");',
            'headers.put("$camel", "$V");',
            'config.set$Pascal("$V");',
            '@Value("${app.$kebab:$V}")',
            'String $camel = System.getenv().getOrDefault("$UPPER", "$V");',
            'builder.$camel("$V").build();',
            'char[] $camel = "$V".toCharArray();',
            'byte[] $camel = "$V".getBytes(StandardCharsets.UTF_8);',
            'send(request, "$V");',
            "// rotated last week, was $V",
        ),
        calls=(
            'DriverManager.getConnection(url, "svc_report", "$V");',
            'credentials = Credentials.basic("svc_report", "$V");',
        ),
        blocks=('String $camel = """\n$V\n""";',),
    ),
    Language(
        name="JavaScript",
        suffix=".js",
        before="'use strict';\n\nfunction total(values) {\n  let sum = 0;\n  for (const value of values) sum += value;\n  return sum;\n}\n\n",
        after="\n\nmodule.exports = { total };\n",
        templates=(
            "const $camel = '$V';",
            'var $camel = "$V"',
            "const config = { host: 'db', $camel: '$V', port: 5432 };",
            'export default { "$kebab": "$V" };',
            "const $camel = process.env.$UPPER || '$V';",
            'const $camel = process.env.$UPPER ?? "$V";',
            "process.env.$UPPER = `$V`;",
            "module.exports.$camel = '$V';",
            "request.headers['$kebab'] = '$V';",
            "client.set('$camel', '$V');",
            "run(job, '$V', { retries: 3 });",
            "// curl it with $V while staging is up",
        ),
        calls=("client.authenticate('svc-report', '$V');",),
        blocks=("const $camel = `$V`;",),
    ),
    Language(
        name="TypeScript",
        suffix=".ts",
        before="export interface Row {\n  id: number;\n  amount: number;\n}\n\nexport function total(rows: Row[]): number {\n  return rows.reduce((sum, row) => sum + row.amount, 0);\n}\n\n",
        after="\n\nexport const empty = (rows: Row[]): boolean => rows.length === 0;\n",
        templates=(
            'const $camel: string = "$V";',
            "export const $UPPER: string = '$V';",
            'private readonly $camel: string = "$V";',
            'export const environment = { production: true, $camel: "$V" } as const;',
            "const $camel = '$V' as string;",
            "constructor(private $camel: string = '$V') {}",
            "const $camel = <string>'$V';",
            "provide(TOKENS, { useValue: '$V' });",
            "/* was $V before */",
        ),
        calls=("await signIn('svc-report', '$V');",),
        blocks=("export const $UPPER = `$V`;",),
    ),
    Language(
        name="Go",
        suffix=".go",
        before='package ledger\n\nimport "os"\n\nfunc Total(values []int) int {\n\tsum := 0\n\tfor _, value := range values {\n\t\tsum += value\n\t}\n\treturn sum\n}\n\n',
        after="\n\nfunc Empty(values []int) bool { return len(values) == 0 }\n",
        templates=(
            'const $camel = "$V"',
            'var $Pascal string = "$V"',
            '\t$camel := "$V"',
            "\t$camel := `$V`",
            '\tcfg := Config{Host: "db", $Pascal: "$V"}',
            '\tos.Setenv("$UPPER", "$V")',
            '\t$camel := []byte("$V")',
            '\treq.Header.Set("$kebab", "$V")',
            '\tflag.StringVar(&$camel, "$kebab", "$V", "as given by operations")',
            '\tif v == "" {\n\t\t$camel = "$V"\n\t}',
            '\tvalues := []string{"first", "$V"}',
        ),
        calls=('\treq.SetBasicAuth("svc-report", "$V")',),
        blocks=("var $camel = `$V`",),
    ),
    Language(
        name="Rust",
        suffix=".rs",
        before="pub fn total(values: &[i64]) -> i64 {\n    values.iter().sum()\n}\n\npub struct Row {\n    pub id: u64,\n    pub amount: i64,\n}\n\n",
        after="\n\npub fn empty(values: &[i64]) -> bool {\n    values.is_empty()\n}\n",
        templates=(
            'const $UPPER: &str = "$V";',
            'pub static $UPPER: &\'static str = "$V";',
            'let $snake = "$V".to_string();',
            'let $snake = String::from("$V");',
            'let $snake: &[u8] = b"$V";',
            'let config = Config { host: "db".into(), $snake: "$V".into() };',
            'env::set_var("$UPPER", "$V");',
            'let $snake = env::var("$UPPER").unwrap_or_else(|_| "$V".to_owned());',
            'client.header("$kebab", "$V")',
            'call(&request, "$V");',
        ),
        calls=('request.basic_auth("svc-report", Some("$V"))',),
        blocks=('const $UPPER: &str = r#"$V"#;',),
    ),
    Language(
        name="C#",
        suffix=".cs",
        before="namespace Example.Ledger;\n\npublic class Ledger\n{\n    private int total;\n\n    public int Add(int amount)\n    {\n        total += amount;\n        return total;\n    }\n\n",
        after="\n    public int Total => total;\n}\n",
        templates=(
            'private const string $Pascal = "$V";',
            'public string $Pascal { get; set; } = "$V";',
            'var $camel = @"$V";',
            'options.$Pascal = "$V";',
            'var $camel = Environment.GetEnvironmentVariable("$UPPER") ?? "$V";',
            'new Dictionary<string, string> { ["$Pascal"] = "$V" };',
            'settings.Add("$Pascal", "$V");',
            'var client = new Client($camel: "$V");',
            'Send(request, "$V");',
        ),
        calls=('var login = new NetworkCredential("svc-report", "$V");',),
        blocks=('var $camel = @"$V";',),
    ),
    Language(
        name="C++",
        suffix=".cpp",
        before="#include <numeric>\n#include <string>\n#include <vector>\n\nint total(const std::vector<int>& values) {\n    return std::accumulate(values.begin(), values.end(), 0);\n}\n\n",
        after="\n\nbool empty(const std::vector<int>& values) { return values.empty(); }\n",
        templates=(
            '#define $UPPER "$V"',
            'const char* $snake = "$V";',
            'static const char $UPPER[] = "$V";',
            'std::string $snake{"$V"};',
            'constexpr std::string_view $UPPER = "$V";',
            'std::string $snake("$V");',
            'config["$snake"] = "$V";',
            'const std::string $camel = u8"$V";',
            'strcpy($snake, "$V");',
            'send(socket, "$V", 0);',
        ),
        calls=('mysql_real_connect(db, "db.internal", "svc_report", "$V", "ledger", 0, NULL, 0);',),
        blocks=('static const char* $snake = R"($V)";',),
    ),
    Language(
        name="Ruby",
        suffix=".rb",
        before="# frozen_string_literal: true\n\nclass Ledger\n  def total(values)\n    values.sum\n  end\n\n  def mean(values)\n    total(values) / [values.size, 1].max\n  end\nend\n\n",
        after="\n\nputs Ledger.new.total([1, 2, 3])\n",
        templates=(
            "$snake = '$V'",
            '$UPPER = "$V".freeze',
            "config.$snake = '$V'",
            ":$snake => '$V',",
            '"$snake" => "$V",',
            "$snake: '$V',",
            "$snake = ENV.fetch('$UPPER', '$V')",
            "ENV['$UPPER'] ||= '$V'",
            "$snake ENV['$UPPER'] || '$V'",
            "set :$snake, '$V'",
            "perform(job, '$V')",
        ),
        calls=("request.basic_auth 'svc-report', '$V'",),
        blocks=("$UPPER = <<~TEXT\n$V\nTEXT",),
    ),
    Language(
        name="PHP",
        suffix=".php",
        before="<?php\n\nfunction total(array $values): int\n{\n    $sum = 0;\n    foreach ($values as $value) {\n        $sum += $value;\n    }\n    return $sum;\n}\n\n",
        after="\n\nfunction is_empty(array $values): bool\n{\n    return count($values) === 0;\n}\n",
        templates=(
            "\x24$snake = '$V';",
            "'$snake' => '$V',",
            '"$kebab" => "$V",',
            "define('$UPPER', '$V');",
            "const $UPPER = '$V';",
            "private string \x24$camel = '$V';",
            "'$snake' => env('$UPPER', '$V'),",
            "putenv('$UPPER=$V');",
            "\x24config['$snake'] = '$V';",
            "\x24client->set$Pascal('$V');",
            "dispatch(\x24job, '$V');",
        ),
        calls=(
            "\x24db = new PDO(\x24dsn, 'svc_report', '$V');",
            "\x24db = mysqli_connect('db.internal', 'svc_report', '$V', 'ledger');",
        ),
        blocks=("\x24$camel = <<<TEXT\n$V\nTEXT;",),
    ),
    Language(
        name="Kotlin",
        suffix=".kt",
        before="package org.example.ledger\n\nclass Ledger {\n    private var total = 0\n\n    fun add(amount: Int): Int {\n        total += amount\n        return total\n    }\n}\n\n",
        after="\n\nfun empty(values: List<Int>): Boolean = values.isEmpty()\n",
        templates=(
            'val $camel = "$V"',
            'const val $UPPER: String = "$V"',
            'private val $camel: String = "$V"',
            'mapOf("$camel" to "$V")',
            'val $camel = System.getenv("$UPPER") ?: "$V"',
            'Client($camel = "$V")',
            'buildConfigField("String", "$UPPER", "\\"$V\\"")',
            'run(job, "$V")',
        ),
        calls=('auth.signIn("svc-report", "$V")',),
        blocks=('val $camel = """$V"""',),
    ),
    Language(
        name="Swift",
        suffix=".swift",
        before="import Foundation\n\nstruct Ledger {\n    var rows: [Int] = []\n\n    func total() -> Int {\n        return rows.reduce(0, +)\n    }\n}\n\n",
        after="\n\nfunc empty(_ values: [Int]) -> Bool { values.isEmpty }\n",
        templates=(
            'let $camel = "$V"',
            'static let $camel: String = "$V"',
            'private let $camel: String? = "$V"',
            'let headers = ["$kebab": "$V"]',
            'configure($camel: "$V")',
            'request.setValue("$V", forHTTPHeaderField: "$kebab")',
            'let $camel = ProcessInfo.processInfo.environment["$UPPER"] ?? "$V"',
            'run(job, with: "$V")',
        ),
        blocks=('let $camel = """\n$V\n"""',),
    ),
    Language(
        name="Scala",
        suffix=".scala",
        before="package org.example.ledger\n\nobject Ledger {\n  def total(values: Seq[Int]): Int = values.sum\n\n  def mean(values: Seq[Int]): Int = total(values) / values.size.max(1)\n}\n\n",
        after="\n\nobject Empty { def apply(values: Seq[Int]): Boolean = values.isEmpty }\n",
        templates=(
            'val $camel = "$V"',
            'private val $camel: String = "$V"',
            'Map("$camel" -> "$V")',
            'val $camel = sys.env.getOrElse("$UPPER", "$V")',
            'case class Settings($camel: String = "$V")',
            'submit(job, "$V")',
        ),
        blocks=('val $camel = """$V"""',),
    ),
    Language(
        name="Shell",
        suffix=".sh",
        before='#!/bin/bash\nset -euo pipefail\n\ntotal() {\n  local sum=0\n  for value in "$@"; do\n    sum=$((sum + value))\n  done\n  echo "$sum"\n}\n\n',
        after="\n\ntotal 1 2 3\n",
        templates=(
            "$UPPER=$V",
            "export $UPPER=$V",
            'export $UPPER="$V"',
            "$snake='$V'",
            "$UPPER=${$UPPER:-$V}",
            'declare -r $UPPER="$V"',
            "deploy --$kebab $V --wait",
            "deploy --$kebab=$V --wait",
            "kubectl create secret generic app --from-literal=$kebab=$V",
            "curl -fsS -H '$kebab: $V' https://api.internal/items",
            'sed -i "s/^$snake=.*/$snake=$V/" app.conf',
            'notify "$V"',
        ),
        calls=(
            "mysql -h db.internal -u svc_report -p$V ledger",
            "curl -fsS --user svc_report:$V https://api.internal/items",
            "sshpass -p '$V' ssh report@db.internal uptime",
        ),
        blocks=("cat > key.txt <<'END'\n$V\nEND", '$UPPER="$V"'),
    ),
    Language(
        name="YAML",
        suffix=".yml",
        before="version: 2\nservices:\n  ledger:\n    image: registry.internal/ledger\n    ports:\n      - 8080\n    environment:\n      LOG_LEVEL: info\n",
        after="\n    restart: always\n    healthcheck:\n      interval: 30s\n",
        templates=(
            "      $snake: $V",
            '      $kebab: "$V"',
            "      $camel: '$V'",
            "      - $UPPER=$V",
            "      $UPPER: $V  # staging",
            "      - name: $UPPER\n        value: $V",
            '      - name: $UPPER\n        value: "$V"',
            '    command: ["serve", "--$kebab", "$V"]',
            '    command: ["serve", "--$kebab=$V"]',
            "      # $V",
        ),
        blocks=("      $snake: |\n$V",),
    ),
    Language(
        name="Dockerfile",
        suffix="Dockerfile",
        before="FROM debian:stable-slim\nWORKDIR /srv\nCOPY requirements.txt .\nRUN apt-get update && apt-get install -y python3 python3-pip\nRUN pip install -r requirements.txt\n",
        after='\nCOPY . .\nEXPOSE 8080\nCMD ["python3", "-m", "ledger"]\n',
        templates=(
            "ENV $UPPER=$V",
            "ENV $UPPER $V",
            'ENV $UPPER="$V"',
            "ARG $UPPER=$V",
            "ENV LOG_LEVEL=info $UPPER=$V",
            'LABEL $kebab="$V"',
            "RUN deploy --$kebab=$V",
            "RUN echo '$V' > /srv/.value",
        ),
    ),
    Language(
        name="HCL",
        suffix=".tf",
        before='resource "aws_instance" "ledger" {\n  ami           = "ami-linux"\n  instance_type = "t3.small"\n  monitoring    = true\n}\n\n',
        after='\noutput "address" {\n  value = aws_instance.ledger.private_ip\n}\n',
        templates=(
            '$snake = "$V"',
            '  $snake    = "$V"',
            'variable "$snake" {\n  type    = string\n  default = "$V"\n}',
            '  environment = {\n    $UPPER = "$V"\n  }',
            '  set {\n    name  = "auth.$camel"\n    value = "$V"\n  }',
            '  tags = ["$V"]',
        ),
        blocks=("  $snake = <<EOT\n$V\nEOT",),
    ),
    Language(
        name="TOML",
        suffix=".toml",
        before='[service]\nname = "ledger"\nport = 8080\nworkers = 4\nlog_level = "info"\n\n[database]\nhost = "db.internal"\n',
        after="\n[limits]\nrequests = 100\nseconds = 60\n",
        templates=(
            '$snake = "$V"',
            "$kebab = '$V'",
            '"$camel" = "$V"',
            'pool = { size = 5, $snake = "$V" }',
            'values = ["$V"]',
            "# $V",
        ),
        blocks=('$snake = """\n$V\n"""',),
    ),
    Language(
        name="SQL",
        suffix=".sql",
        before="CREATE TABLE ledger (\n    id INTEGER PRIMARY KEY,\n    amount INTEGER NOT NULL,\n    booked DATE\n);\n\nSELECT id, amount FROM ledger WHERE amount > 100 ORDER BY booked;\n",
        after="\nCREATE INDEX ledger_booked ON ledger (booked);\n",
        templates=(
            "SET $snake = '$V';",
            "INSERT INTO settings (name, value) VALUES ('$snake', '$V');",
            "UPDATE accounts SET $snake = '$V' WHERE id = 7;",
            "SELECT run_job('report', '$V');",
            "-- $V",
        ),
        calls=(
            "CREATE USER report IDENTIFIED BY '$V';",
            "CREATE ROLE report LOGIN PASSWORD '$V';",
            "ALTER USER report WITH PASSWORD '$V';",
        ),
    ),
    Language(
        name="PowerShell",
        suffix=".ps1",
        before="function Get-Total {\n    param([int[]] $Values)\n    $sum = 0\n    foreach ($value in $Values) { $sum += $value }\n    return $sum\n}\n\n",
        after="\n\nGet-Total -Values 1, 2, 3\n",
        templates=(
            "\x24$camel = '$V'",
            '\x24env:$UPPER = "$V"',
            "[string] \x24$Pascal = '$V'",
            "@{ $Pascal = '$V' }",
            "Connect-Ledger -$Pascal '$V'",
            "Send-Report '$V'",
        ),
        calls=("\x24secure = ConvertTo-SecureString '$V' -AsPlainText -Force",),
        blocks=("\x24$camel = @'\n$V\n'@",),
    ),
    Language(
        name="Perl",
        suffix=".pl",
        before="use strict;\nuse warnings;\n\nsub total {\n    my $sum = 0;\n    $sum += $_ for @_;\n    return $sum;\n}\n\n",
        after='\n\nprint total(1, 2, 3), "\\n";\n',
        templates=(
            "my \x24$snake = '$V';",
            "$snake => '$V',",
            "\x24ENV{$UPPER} = '$V';",
            "our \x24$UPPER = q($V);",
            "run(\x24job, '$V');",
        ),
        calls=("my \x24db = DBI->connect(\x24dsn, 'svc_report', '$V');",),
        blocks=("my \x24$snake = <<'END';\n$V\nEND",),
    ),
    *HELDOUT,
)
