"""A file with a credential is found, whatever rule it falls under, and nothing of it is told (fault 45).

The credentials are put together at run time: none stands in this file as a whole.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.corpus import Reason, read_repositories, units
from sordino_client.corpus import secrets as scan
from sordino_client.corpus.secret_names import is_secret_directory, is_secret_name
from sordino_client.corpus.secret_rules import RULES, is_placeholder
from sordino_client.corpus.secrets import find_secret

ALNUM = "q7Zt2Lm9Xw4Rb6Kp1Vn8Yc3Hd5Gf0JsT"  # 32 characters that no one types
LONG = ALNUM * 4
HEX = "9f3a7c1e5b2d8046" * 4
CODE = "public int total(int[] values) {\n    return sum(values);\n}\n"

PLANTED = {
    "private-key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "putty-key": "PuTTY-User-Key-" + "File-3: ssh-ed25519",
    "age-key": "AGE-SECRET-" + "KEY-1" + "Q7Z2" * 14 + "QZ",
    "aws-access-key": 'id = "AKIA' + 'Q7ZT2LM9XW4RB6KP"',
    "aws-secret-key": 'aws_secret_access_key = "' + LONG[:40] + '"',
    "github-token": "ghp_" + LONG[:36],
    "github-pat": "github_pat_" + ALNUM[:22] + "_" + LONG[:59],
    "gitlab-token": "glpat-" + ALNUM[:20],
    "slack-token": "xoxb-" + "12345678901-" + ALNUM[:24],
    "slack-webhook": "https://hooks.slack.com/" + "services/T00000000/B00000000/" + ALNUM[:24],
    "stripe-key": "sk_live_" + ALNUM[:24],
    "google-api-key": "AIza" + LONG[:35],
    "google-oauth": "GOCSPX-" + ALNUM[:28],
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + LONG[:43],
    "npm-token": "npm_" + LONG[:36],
    "pypi-token": "pypi-AgEIcHlwaS5vcmc" + LONG[:80],
    "openai-key": "sk-proj-" + LONG[:48],
    "anthropic-key": "sk-ant-api03-" + LONG[:95],
    "hugging-face-token": "hf_" + "qZtLmXwRbKpVnYcHdGfJsqZtLmXwRbKpVn",
    "sendgrid-key": "SG." + ALNUM[:22] + "." + LONG[:43],
    "twilio-key": "SK" + HEX[:32],
    "azure-storage-key": "AccountKey=" + LONG[:86] + "==",
    "digitalocean-token": "dop_v1_" + HEX[:64],
    "vault-token": "hvs." + ALNUM[:24],
    "docker-token": "dckr_pat_" + ALNUM[:27],
    "shopify-token": "shpat_" + HEX[:32],
    "databricks-token": "dapi" + HEX[:32],
    "grafana-token": "glsa_" + ALNUM + "_" + HEX[:8],
    "linear-or-postman-key": "lin_api_" + LONG[:40],
    "telegram-token": "123456789:AA" + LONG[:33],
    "connection-string": "postgres://billing:" + "hunter2-Q7zt@db.internal:5432/ledger",
    "connection-string-password": "jdbc:sqlserver://db;user=sa;password=" + "Tr0ub4dor;encrypt=true",
    "authorization-header": '"Authorization": "Bearer ' + ALNUM + '"',
    "assigned-secret": 'clientSecret = "' + ALNUM + '"',
}


def test_every_rule_has_a_planted_example() -> None:
    assert PLANTED.keys() == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("around", ["{} ", 'x = "{}";', "\n\t# {}\n", "a({},b)", "{}\r\n"])
def test_a_planted_credential_is_found_in_code(name: str, around: str) -> None:
    text = CODE + around.replace("{}", PLANTED[name]) + CODE
    found = find_secret(text)
    assert found is not None
    assert PLANTED[name] not in found


@pytest.mark.parametrize("name", PLANTED)
def test_each_rule_finds_its_own_example(name: str) -> None:
    (rule,) = (rule for rule in RULES if rule.name == name)
    text = CODE + PLANTED[name] + "\n"
    assert any(literal in (text.lower() if rule.fold else text) for literal in rule.literals)
    assert rule.found_in(text)


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        'url = "https://user:password@host/path"',
        'url = "postgres://{user}:{password}@{host}/db"',
        'url = f"amqp://{name}:${PASSWORD}@queue"',
        'curl = "https://user:<token>@example.com"',
        'password = "correct horse battery staple"',
        'token = "com.example.security.TokenProvider"',
        'secret_name = "kubernetes-database-credentials"',
        'api_key = os.environ["API_KEY_OF_THE_SERVICE"]',
        'PRIVATE_KEY_HEADER = "BEGIN"',
        "git_commit = '9f3a7c1e5b2d80469f3a7c1e5b2d80469f3a7c1e'",
        "integrity sha512-" + LONG[:86] + "==",
        "eyJ is how a token begins",
        "http://host:8080/a@b",
    ],
)
def test_ordinary_code_is_not_taken_for_a_secret(text: str) -> None:
    assert find_secret(text) is None


@pytest.mark.parametrize(
    "value", ["password", "<secret>", "${DB_PASS}", "{pw}", "xxxxxxxx", "***", "changeme", "%s"]
)
def test_what_documentation_writes_for_a_password_is_a_placeholder(value: str) -> None:
    assert is_placeholder(value)


def test_no_planted_credential_reaches_a_window_of_tokens(tmp_path: Path) -> None:
    class Bytes:
        def encode(self, text: str) -> list[int]:
            return [4 + byte for byte in text.encode()]

    for name, planted in PLANTED.items():
        (tmp_path / f"{name}.py").write_text(f"# {name}\n{CODE}KEY = '{planted}'\n{CODE}")
        (tmp_path / f"{name}_clean.py").write_text(f"def clean_{name.replace('-', '_')}():\n" + CODE * 2)
    corpus = read_repositories([tmp_path])
    assert corpus.excluded == {Reason.SECRET: len(PLANTED)}
    assert sum(corpus.secret_rules.values()) == len(PLANTED)
    found = units(corpus, Bytes(), window=128, windows_per_unit=1000)
    stream = b"".join(bytes(token - 4 for token in unit.windows.ravel().tolist() if token) for unit in found)
    assert b"clean_jwt" in stream
    assert not [name for name, planted in PLANTED.items() if planted.encode() in stream]
    shown = repr(corpus) + repr(found)
    assert not [name for name, planted in PLANTED.items() if planted in shown]


def detectors() -> list[tuple[str, re.Pattern[str]]]:
    """Each expression of each detector of detect-secrets that is used."""
    found = []
    for named in scan._NAMED:
        detector = getattr(import_module(f"detect_secrets.plugins.{named.module}"), named.name)
        found += [(named.name, expression) for expression in detector.denylist]
    return found


@pytest.mark.parametrize(
    ("name", "expression"), detectors(), ids=lambda value: value if isinstance(value, str) else ""
)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_whatever_a_detector_of_detect_secrets_finds_in_a_line_is_found(
    name: str, expression: re.Pattern[str], data: st.DataObject
) -> None:
    alphabet = st.characters(min_codepoint=32, max_codepoint=126)
    planted = data.draw(
        st.from_regex(expression, alphabet=alphabet).map(lambda text: text.replace("\n", " "))
    )
    (named,) = (entry for entry in scan._NAMED if entry.name == name)
    line = f"x {planted} y"
    values = list(scan._detector(named).analyze_string(line))
    if any(not (name == "BasicAuthDetector" and is_placeholder(value)) for value in values):
        assert find_secret(f"{CODE}{line}\n{CODE}") is not None


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".env",
            "deploy/.env.production",
            "id_rsa",
            ".ssh/id_ed25519",
            "tls/server.PEM",
            "a.key",
            "keys/app.p12",
        ),
        *(
            "release.keystore",
            ".netrc",
            ".npmrc",
            ".pypirc",
            "credentials.json",
            "config/secrets.yml",
            "prod.tfstate",
        ),
        *("prod.tfvars", "client_secret_123.json", ".bash_history", "wp-config.php", "app/local_settings.py"),
    ],
)
def test_files_named_like_secrets_are_known_by_name(path: str) -> None:
    assert is_secret_name(path)


@pytest.mark.parametrize(
    "path", ["main.py", "secrets.py", "Credentials.java", "id_rsa.pub", "key.go", "environment.ts"]
)
def test_source_files_that_speak_of_secrets_are_not(path: str) -> None:
    assert not is_secret_name(path)


def test_folders_of_credentials_are_known_by_name() -> None:
    assert is_secret_directory("home/.ssh")
    assert not is_secret_directory("ssh")


def test_a_credential_that_stands_alone_is_found() -> None:
    assert {name for name, planted in PLANTED.items() if find_secret(planted) is None} == set()
