"""A credential is found, whatever rule it falls under; its literal is masked, and nothing of it is told (fault 45).

The credentials are put together at run time: none stands in this file as a whole.
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.corpus import CorpusPolicy, UnitRegistry, read_repositories, units
from sordino_client.corpus.corpus import SourceFile
from sordino_client.corpus.languages import LANGUAGES
from sordino_client.corpus.secret_names import is_secret_directory, is_secret_name
from sordino_client.corpus.secret_naming import PASSWORD, SECRET, WEAK, strength
from sordino_client.corpus.secret_rules import RULES
from sordino_client.corpus.secret_values import PLACEHOLDER, is_placeholder, looks_random
from sordino_client.corpus.secrets import credential_in, find_secrets, screen

ALNUM = "q7Zt2Lm9Xw4Rb6Kp1Vn8Yc3Hd5Gf0JsT"  # 32 characters that no one types
LONG = ALNUM * 4
HEX = "9f3a7c1e5b2d8046" * 4
CODE = "public int total(int[] values) {\n    return sum(values);\n}\n"

PLANTED = {
    "private-key": "-----BEGIN RSA "
    + "PRIVATE KEY-----\n"
    + LONG[:64]
    + "\n-----END RSA "
    + "PRIVATE KEY-----",
    "private-key-base64": base64.b64encode(
        b"-----BEGIN RSA " + b"PRIVATE KEY-----\n" + LONG.encode()
    ).decode(),
    "putty-key": "PuTTY-User-Key-" + "File-3: ssh-ed25519\nPrivate-Lines: 1\n" + LONG[:64],
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
    "artifactory-key": "AKCp" + LONG[:69],
    "azure-client-secret": "q7Z8Q~" + LONG[:34],
    "signed-url": "https://a.blob.core.windows.net/c?sp=r&sig=" + LONG[:43] + "%3D",
    "facebook-token": "EAA" + LONG[:100],
    "firebase-key": "AAAA" + ALNUM[:7] + ":APA91b" + LONG + ALNUM[:6],
    "discord-webhook": "https://discord.com/api/webhooks/" + "112233445566778899/" + LONG[:68],
    "discord-token": "M" + ALNUM[:23] + "." + ALNUM[:6] + "." + LONG[:38],
    "mailgun-key": "key-" + HEX[:32],
    "mailchimp-key": HEX[:32] + "-us12",
    "django-key": "django-insecure-" + LONG[:50],
    "new-relic-key": HEX[:36] + "NRAL",
    "connection-string": "postgres://billing:" + "hunter2-Q7zt@db.internal:5432/ledger",
}
# What stands around them gives these away.
V = "Xk9mQ2vB7zLp" + "4wRt8yUo3Zz1"
TELLING = [
    ("Python", 'password = "V"'),
    ("Python", 'password: str = "V"'),
    ("TypeScript", 'export const API_TOKEN: string = "V";'),
    ("Go", 'var token string = "V"'),
    ("Rust", 'const TOKEN: &str = "V";'),
    ("Kotlin", 'private val password: String = "V"'),
    ("Java", 'private static final String PASSWORD = "V";'),
    ("C#", 'public string ApiToken { get; set; } = "V";'),
    ("PHP", "'password' => 'V',"),
    ("Ruby", ":password => 'V'"),
    ("Python", 'password = b"V"'),
    ("Python", 'token = os.environ.get("API_TOKEN", "V")'),
    ("JavaScript", "const token = process.env.API_TOKEN || 'V';"),
    ("YAML", "password: V"),
    ("YAML", "- name: API_TOKEN\n  value: V"),
    ("Shell", "API_TOKEN=V"),
    ("Shell", "export API_TOKEN=${API_TOKEN:-V}"),
    ("Dockerfile", "ENV API_TOKEN V"),
    ("Dockerfile", "ENV API_TOKEN=V"),
    ("HCL", 'variable "api_token" {\n  default = "V"\n}'),
    ("HTML", "<password>V</password>"),
    *(("Python", f'{name} = "V"') for name in ("private_key", "access_key", "passphrase", "signing_key")),
    ("C#", 'var c = "Password=V;Server=db.internal;";'),
    ("C#", 'var c = "Server=db.internal;Password=V;";'),
    ("Java", 'String url = "jdbc:sqlserver://db;user=sa;password=V;encrypt=true";'),
    ("Python", 'headers = {"Authorization": "Bearer V"}'),
    ("Shell", "curl -H 'X-API-Key: V' https://api.internal/items"),
    ("Shell", "mysql -u report -pV ledger"),
    ("SQL", "CREATE USER report IDENTIFIED BY 'V';"),
    ("Java", 'client.login("svc-report", "V");'),
]


def parts(secret: str) -> list[str]:
    """Every piece of eight characters: a credential of which one of them is left is not masked."""
    return [secret[at : at + 8] for at in range(max(1, len(secret) - 7))]


def around(line: str) -> str:
    """The line in a file that is long enough to be kept."""
    return CODE * 40 + line + "\n" + CODE


def test_every_rule_has_a_planted_example() -> None:
    assert PLANTED.keys() == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("template", ["{} ", 'x = "{}";', "\n\t# {}\n", "a({},b)", "{}\r\n"])
def test_a_planted_credential_is_masked_in_code_and_the_file_is_kept(name: str, template: str) -> None:
    screened = screen(around(template.replace("{}", PLANTED[name])), "Python")
    assert screened.left_out is None
    assert PLANTED[name] not in screened.text
    assert PLACEHOLDER in screened.text
    assert screened.text.startswith(CODE)
    assert sum(screened.masked.values()) >= 1


@pytest.mark.parametrize("name", PLANTED)
def test_each_rule_finds_its_own_example(name: str) -> None:
    text = CODE + PLANTED[name] + "\n"
    rules = [rule for rule in RULES if rule.name == name]
    assert any(
        literal in (text.lower() if rule.fold else text) for rule in rules for literal in rule.literals
    )
    assert any(list(rule.spans(text)) for rule in rules)


@pytest.mark.parametrize(("language", "line"), TELLING)
@pytest.mark.parametrize("value", [V, "Summer26!", "hunter7!x", V * 8], ids=["24", "typed", "short", "long"])
def test_a_literal_that_its_surroundings_give_away_is_masked(language: str, line: str, value: str) -> None:
    if value != V and "token" in line.lower():
        value = V * 8  # a token is drawn
    if value != V and ("key" in line.lower() or "bearer" in line.lower()):
        value = V * 2
    text = screen(around(line.replace("V", value).replace("EN" + value, "ENV")), language).text
    assert not [part for part in parts(value) if part in text]
    assert CODE in text


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), max_size=400),
    st.sampled_from(sorted(PLANTED)),
    st.text(st.characters(codec="utf-8"), max_size=400),
)
def test_masking_twice_changes_nothing_and_spans_lie_in_order_within_any_text(
    before: str, name: str, after: str
) -> None:
    text = f"{before}\n{PLANTED[name]}\n{after}"
    spans = list(find_secrets(text, "Python"))
    edges = [edge for span in spans for edge in (span.start, span.end)]
    assert edges == sorted(edges)
    assert all(span.start < span.end <= len(text) for span in spans)
    once = screen(around(text), "Python")
    assert once.left_out is not None or screen(once.text, "Python").text == once.text


def test_a_key_file_is_left_out_whole_whatever_it_is_called() -> None:
    screened = screen(PLANTED["private-key"] + "\n")
    assert (screened.left_out, screened.text, dict(screened.masked)) == ("private-key", "", {})


@pytest.mark.parametrize(
    "many", ["password = ", "-----BEGIN RSA " + "PRIVATE KEY-----\n", '"token": "', "a=b;password="]
)
def test_a_hostile_text_that_fills_a_file_is_read(many: str) -> None:
    # Were any expression quadratic in its text, this would not end.
    screen(many * (CorpusPolicy().maximum_bytes // 8 // len(many)), "Python")


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
        'key_id = "AKIAIOSFODNN7EXAMPLE"',
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
        'stripe.api_key = "sk_test_' + '4eC39HqLyjWDarjtT1zdp7dc"',
        'header = "X-CSRF-Token-Header-Name1"',
        'password_file = "/run/secrets/db_password_v2_file"',
        'password = "/run/secrets/db_password_v2_file"',
        'password = getpass("Password: ")',
        "token = self.next_token()",
        'password_label = "Enter your password"',
        'tokens = ["identifier", "number", "operator"]',
        "KEY_SIZE = 2048",
        'auth_type = "basic"',
        'algorithm = "PBKDF2WithHmacSHA512"',
        'token_endpoint = "https://login.example.com/oauth2/v2.0/token"',
        'OID_SERVER_AUTH = "1.3.6.1.5.5.7.3.1"',
        'key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAACAQDOXXnPveNXDONNioMmDmS5 me@host"',
    ],
)
def test_ordinary_code_is_not_taken_for_a_secret(text: str) -> None:
    assert screen(around(text), "Python").text == around(text)


@pytest.mark.parametrize(
    "value", ["password", "<secret>", "${DB_PASS}", "{pw}", "xxxxxxxx", "***", "changeme", "%s"]
)
def test_what_documentation_writes_for_a_password_is_a_placeholder(value: str) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("password", PASSWORD),
        ("dbPassword", PASSWORD),
        ("DB_PASS", PASSWORD),
        ("apiToken", SECRET),
        ("signing-key", SECRET),
        ("client_secret_prod", SECRET),
        ("stripeKey", SECRET),
        ("sort_key", WEAK),
        ("password_field", 0),
        ("tokenizer", 0),
        ("public_key", 0),
        ("total", 0),
    ],
)
def test_a_name_says_what_it_holds(name: str, says: int) -> None:
    assert strength(name) == says


def test_drawn_characters_are_told_from_written_ones() -> None:
    assert looks_random(V)
    assert looks_random(HEX[:32])
    assert not looks_random("test_connect_with_ssl3_context_and_retries")
    assert not looks_random("/usr/lib/python3.11/site-packages")


def test_no_planted_credential_reaches_a_window_of_tokens(tmp_path: Path) -> None:
    class Bytes:
        def encode(self, text: str) -> list[int]:
            return [4 + byte for byte in text.encode()]

    for n, (language, line) in enumerate(TELLING):
        suffix = LANGUAGES[language][0]
        text = f"# {n}\n{CODE * 40}{line.replace('V', V).replace('EN' + V, 'ENV')}\n{CODE}"
        (tmp_path / f"telling{n}{suffix}").write_text(text)
    for name, line in PLANTED.items():
        (tmp_path / f"{name}.py").write_text(f"# {name}\n{CODE * 40}KEY = '{line}'\n{CODE}")
        (tmp_path / f"{name}_clean.py").write_text(f"def clean_{name.replace('-', '_')}():\n" + CODE * 2)
    corpus = read_repositories([tmp_path])
    assert corpus.excluded == {}
    assert sum(count.masked for count in corpus.secret_rules.values()) >= len(PLANTED)
    found = units(corpus, Bytes(), window=128, windows_per_unit=100_000)
    stream = b"".join(bytes(token - 4 for token in unit.windows.ravel().tolist() if token) for unit in found)
    assert b"clean_jwt" in stream
    assert not [name for name, line in PLANTED.items() if line.encode() in stream]
    assert V[:12].encode() not in stream
    shown = repr(corpus) + repr(found)
    assert not [name for name, line in PLANTED.items() if line in shown]


def test_a_file_stays_in_its_unit_when_its_credential_is_masked() -> None:
    """Registries that were written before literals were masked hold digests of unmasked texts."""
    before = SourceFile.of("app", "settings.py", "Python", f'{CODE}password = "{V}"\n')
    after = SourceFile.of("app", "settings.py", "Python", screen(around(f'password = "{V}"'), "Python").text)
    with UnitRegistry() as registry:
        dataset = registry.dataset
        (unit,) = registry.assign([before])
        assert registry.assign([after]) == [unit]
        assert registry.dataset == dataset


@pytest.mark.parametrize(
    ("before", "suggestion", "after"),
    [
        ('export const API_TOKEN: string = "', f'{V}";', ""),
        ('export const API_TOKEN: string = "', V[:9], ""),
        ("password = ", f"'{V}'", ""),
        ("", PLANTED["github-token"], ""),
        ("x = connect(", f'"{PLANTED["connection-string"]}")', ""),
        ('password = "', "Summer26!", '"\n'),
        ("total = 1\n", f'x = 2\npassword = "{V}"\n', ""),
    ],
)
def test_a_suggestion_that_holds_a_credential_is_known(before: str, suggestion: str, after: str) -> None:
    assert credential_in(before, suggestion, after) is not None


@pytest.mark.parametrize(
    ("before", "suggestion", "after"),
    [
        ("x = ", "total(values)", "\n"),
        ("password = ", "os.environ['PASSWORD']", ""),
        ('password = "', '<secret>"', ""),
        (f'password = "{V}"\nx = ', "total(values)", ""),
        ("def ", "login(user: str, password: str) -> Session:", ""),
    ],
)
def test_an_ordinary_suggestion_is_not(before: str, suggestion: str, after: str) -> None:
    assert credential_in(before, suggestion, after) is None


def test_a_suggestion_is_cut_where_the_line_of_its_credential_begins() -> None:
    assert credential_in("", f'x = 2\npassword = "{V}"\n') == len("x = 2\n")
    key = PLANTED["private-key"]
    assert credential_in("", f"x = 2\n{key}\n") == len("x = 2\n") + key.index("\n") + 1


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
    assert {name for name, planted in PLANTED.items() if not list(find_secrets(planted))} == set()


def test_no_literal_of_a_rule_holds_a_quote() -> None:
    """A suggestion is looked at four times, closed by each quote; which rules may apply is asked once."""
    assert not [rule.name for rule in RULES if set("\"'`") & set("".join(rule.literals))]
