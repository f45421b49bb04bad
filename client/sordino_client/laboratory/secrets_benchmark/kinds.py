"""The kinds of credential that the benchmark plants. Every value is drawn at random: none belongs to anybody.

A kind says how a value looks, what a variable that holds it is called, and whether the value can be told by its own
shape. One without a shape of its own (a password) is planted only where a name, a key or a call says what it is.
"""

from __future__ import annotations

import base64
import json
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

UPPER, LOWER, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
ALNUM, HEX = string.ascii_letters + DIGITS, DIGITS + "abcdef"
BASE64, URLSAFE, BASE32 = ALNUM + "+/", ALNUM + "-_", UPPER + "234567"
TYPED = ALNUM + "!@%^*-_?.+="
WORDS = (
    "amber anchor autumn badger basil canyon cedar cobalt copper coral dragon ember falcon garnet harbor indigo jasper"
    " lantern magnet marble meadow nectar orchid pepper quartz raven saffron summer sunset thunder tiger tulip velvet"
    " violet walnut winter yonder zephyr"
).split()

PASSWORD = (
    "password",
    "db_password",
    "passwd",
    "pwd",
    "admin_password",
    "smtp_password",
    "user_pwd",
    "root_pass",
)
SECRET = ("client_secret", "app_secret", "secret", "shared_secret", "webhook_secret", "secret_key")
TOKEN = ("api_token", "access_token", "token", "auth_token", "refresh_token", "bot_token")
KEY = ("api_key", "apikey", "access_key", "encryption_key", "signing_key", "private_key", "master_key")
PHRASE = ("passphrase", "key_passphrase", "vault_passphrase")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One value: `literal` is what the code holds, `secret` the part of it that must not survive."""

    literal: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialKind:
    """`names`: what variables are called, in snake case. `shaped`: known by itself. `block`: over several lines."""

    name: str
    draw: Callable[[Random], Drawn]
    names: tuple[str, ...]
    shaped: bool = True
    block: bool = False


def text(random: Random, alphabet: str, length: int) -> str:
    """`length` characters of the alphabet."""
    return "".join(random.choices(alphabet, k=length))


def mixed(random: Random, alphabet: str, length: int) -> str:
    """Like `text`, with a digit and a letter in it, as generators of passwords see to."""
    while True:
        drawn = text(random, alphabet, length)
        if any(map(str.isdigit, drawn)) and any(map(str.isalpha, drawn)):
            return drawn


def encoded(random: Random, size: int) -> str:
    """`size` random bytes in base64."""
    return base64.b64encode(random.randbytes(size)).decode()


def _pattern(
    name: str, names: tuple[str, ...], make: Callable[[Random], str], *, shaped: bool = True
) -> CredentialKind:
    def draw(random: Random) -> Drawn:
        value = make(random)
        return Drawn(value, value)

    return CredentialKind(name=name, draw=draw, names=names, shaped=shaped)


def _marked(
    name: str, names: tuple[str, ...], prefix: str, alphabet: str, length: int, end: str = ""
) -> CredentialKind:
    return _pattern(name, names, lambda random: prefix + text(random, alphabet, length) + end)


def _around(
    name: str, names: tuple[str, ...], make: Callable[[Random], tuple[str, str]], *, block: bool = False
) -> CredentialKind:
    def draw(random: Random) -> Drawn:
        return Drawn(*make(random))

    return CredentialKind(name=name, draw=draw, names=names, block=block)


def _human(random: Random) -> str:
    word = random.choice(WORDS)
    return random.choice(
        (
            f"{word.capitalize()}{random.randint(1950, 2029)}{random.choice('!?*.')}",
            f"{word}{random.choice(WORDS)}{random.randint(10, 999)}",
            f"{word[:3].capitalize()}{random.choice('0143')}{word[3:]}{random.choice('!@%')}{random.randint(1, 99)}",
            f"{word.upper()}_{random.choice(WORDS)}_{random.randint(1, 99)}",
        )
    )


def _jwt(random: Random) -> str:
    def part(value: str) -> str:
        return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")

    head = part('{"alg":"HS256","typ":"JWT"}')
    body = part(json.dumps({"sub": str(random.randrange(10**9)), "iat": random.randrange(10**9)}))
    return f"{head}.{body}.{text(random, URLSAFE, 43)}"


def _pem_lines(random: Random, label: str, size: int) -> list[str]:
    body = encoded(random, size)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return [f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"]


def _pem(label: str, size: int) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        lines = _pem_lines(random, label, size)
        return "\n".join(lines), "\n".join(lines[1:-1])

    return make


def _pem_one_line(random: Random) -> tuple[str, str]:
    lines = _pem_lines(random, "RSA PRIVATE KEY", 600)
    return "\\n".join(lines), "\\n".join(lines[1:-1])


def _pem_base64(random: Random) -> tuple[str, str]:
    value = base64.b64encode("\n".join(_pem_lines(random, "PRIVATE KEY", 300)).encode()).decode()
    return value, value


def _word(random: Random) -> str:
    return random.choice(WORDS)


def _url(scheme: str, tail: str, user: bool = True) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        secret = (
            mixed(random, ALNUM, random.randint(8, 20))
            if random.random() < 0.6
            else _human(random).replace("@", "!").replace("?", "!").replace("%", "-")
        )
        name = _word(random) if user else ""
        return f"{scheme}://{name}:{secret}@{_word(random)}.internal{tail}", secret

    return make


def _ado(order: tuple[str, ...]) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        secret = mixed(random, ALNUM + "!%*", random.randint(8, 16))
        values = {
            "Server": f"{_word(random)}.internal",
            "Database": _word(random),
            "User Id": _word(random),
            "Uid": _word(random),
            "Password": secret,
            "Pwd": secret,
        }
        return ";".join(f"{key}={values[key]}" for key in order) + ";", secret

    return make


def _jdbc(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 12)
    return (
        f"jdbc:postgresql://{_word(random)}.internal:5432/{_word(random)}?user={_word(random)}&password={secret}",
        secret,
    )


def _dsn(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 12)
    return (
        f"host={_word(random)} user={_word(random)} password={secret} dbname={_word(random)} sslmode=require",
        secret,
    )


def _query(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 32)
    return (
        f"https://api.{_word(random)}.example/v2/items?{random.choice(('api_key', 'access_token', 'token', 'key'))}={secret}&page=1",
        secret,
    )


def _sas(random: Random) -> tuple[str, str]:
    secret = encoded(random, 32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return (
        f"https://{_word(random)}.blob.core.windows.net/c?sv=2023-11-03&se=2027-01-01&sr=c&sp=rl&sig={secret}",
        secret,
    )


def _azure_storage(random: Random) -> tuple[str, str]:
    secret = encoded(random, 64)
    return (
        f"DefaultEndpointsProtocol=https;AccountName={_word(random)};AccountKey={secret};EndpointSuffix=core.windows.net",
        secret,
    )


def _bearer(random: Random) -> tuple[str, str]:
    secret = mixed(random, URLSAFE, random.choice((32, 40, 64)))
    return f"Bearer {secret}", secret


def _basic(random: Random) -> tuple[str, str]:
    secret = base64.b64encode(f"{_word(random)}:{mixed(random, ALNUM, 14)}".encode()).decode()
    return f"Basic {secret}", secret


def _header_line(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 32)
    return (
        f"{random.choice(('X-API-Key', 'X-Auth-Token', 'PRIVATE-TOKEN', 'X-Vault-Token'))}: {secret}",
        secret,
    )


def _cookie(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 40)
    return f"Cookie: sessionid={secret}; Path=/", secret


def _curl_user(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 14)
    return f"curl -u {_word(random)}:{secret} https://{_word(random)}.internal/health", secret


def _command_flag(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 14)
    return (
        f"{random.choice(('mysql', 'deploy', 'helmctl'))} --user {_word(random)} --password{random.choice('= ')}{secret} --verbose",
        secret,
    )


def _webhook(random: Random) -> tuple[str, str]:
    secret = (
        f"T{text(random, UPPER + DIGITS, 10)}/B{text(random, UPPER + DIGITS, 10)}/{text(random, ALNUM, 24)}"
    )
    return f"https://hooks.slack.com/services/{secret}", secret


def _discord_hook(random: Random) -> tuple[str, str]:
    secret = f"{text(random, DIGITS, 18)}/{text(random, URLSAFE, 68)}"
    return f"https://discord.com/api/webhooks/{secret}", secret


KINDS: tuple[CredentialKind, ...] = (
    _marked("aws-access-key-id", ("aws_access_key_id", "access_key_id"), "AKIA", BASE32, 16),
    _pattern(
        "aws-secret-access-key", ("aws_secret_access_key", "secret_access_key"), lambda r: text(r, BASE64, 40)
    ),
    _pattern(
        "aws-session-token",
        ("aws_session_token", "session_token"),
        lambda r: encoded(r, r.choice((240, 300))),
    ),
    _marked("github-token", ("github_token", *TOKEN), "ghp_", ALNUM, 36),
    _pattern(
        "github-fine-grained",
        ("github_token", *TOKEN),
        lambda r: f"github_pat_{text(r, ALNUM, 22)}_{text(r, ALNUM, 59)}",
    ),
    _marked("gitlab-token", ("gitlab_token", *TOKEN), "glpat-", URLSAFE, 20),
    _pattern(
        "slack-token",
        ("slack_token", *TOKEN),
        lambda r: f"xoxb-{text(r, DIGITS, 12)}-{text(r, DIGITS, 12)}-{text(r, ALNUM, 24)}",
    ),
    _around("slack-webhook", ("webhook_url", "slack_url"), _webhook),
    _around("discord-webhook", ("webhook_url", "discord_url"), _discord_hook),
    _pattern(
        "discord-bot-token",
        ("discord_token", *TOKEN),
        lambda r: f"M{text(r, ALNUM, 23)}.{text(r, ALNUM, 6)}.{text(r, URLSAFE, 38)}",
    ),
    _marked("stripe-key", ("stripe_key", *KEY), "sk_live_", ALNUM, 24),
    _marked("google-api-key", ("google_api_key", *KEY), "AIza", URLSAFE, 35),
    _marked("google-client-secret", SECRET, "GOCSPX-", URLSAFE, 28),
    _pattern(
        "firebase-key",
        ("fcm_key", *KEY),
        lambda r: f"AAAA{text(r, URLSAFE, 7)}:APA91b{text(r, URLSAFE, 134)}",
    ),
    _pattern("jwt", (*TOKEN, "id_token"), _jwt),
    _marked("npm-token", ("npm_token", *TOKEN), "npm_", ALNUM, 36),
    _marked("pypi-token", ("pypi_token", *TOKEN), "pypi-AgEIcHlwaS5vcmcC", URLSAFE, 150),
    _marked("openai-key", ("openai_api_key", *KEY), "sk-proj-", URLSAFE, 74),
    _marked("anthropic-key", ("anthropic_api_key", *KEY), "sk-ant-api03-", URLSAFE, 93, "AA"),
    _marked("hugging-face-token", ("hf_token", *TOKEN), "hf_", string.ascii_letters, 34),
    _pattern(
        "sendgrid-key", ("sendgrid_key", *KEY), lambda r: f"SG.{text(r, URLSAFE, 22)}.{text(r, URLSAFE, 43)}"
    ),
    _marked("twilio-key", ("twilio_sid", "twilio_key"), "SK", HEX, 32),
    _marked("mailgun-key", ("mailgun_key", *KEY), "key-", HEX, 32),
    _pattern("mailchimp-key", ("mailchimp_key", *KEY), lambda r: f"{text(r, HEX, 32)}-us{r.randint(1, 21)}"),
    _pattern(
        "azure-client-secret",
        ("azure_client_secret", *SECRET),
        lambda r: f"{text(r, ALNUM, 3)}8Q~{text(r, ALNUM + '_-.', 34)}",
    ),
    _around("azure-storage-string", ("storage_connection", "connection_string"), _azure_storage),
    _around("azure-sas-url", ("blob_url", "container_url"), _sas),
    _marked("digitalocean-token", ("do_token", *TOKEN), "dop_v1_", HEX, 64),
    _marked("vault-token", ("vault_token", *TOKEN), "hvs.", URLSAFE, 90),
    _marked("docker-token", ("docker_token", *TOKEN), "dckr_pat_", URLSAFE, 27),
    _marked("shopify-token", ("shopify_token", *TOKEN), "shpat_", HEX, 32),
    _marked("databricks-token", ("databricks_token", *TOKEN), "dapi", HEX, 32),
    _pattern(
        "grafana-token", ("grafana_token", *TOKEN), lambda r: f"glsa_{text(r, ALNUM, 32)}_{text(r, HEX, 8)}"
    ),
    _pattern(
        "telegram-token",
        ("telegram_token", "bot_token"),
        lambda r: f"{text(r, DIGITS, 10)}:AA{text(r, URLSAFE, 33)}",
    ),
    _marked("linear-key", ("linear_key", *KEY), "lin_api_", ALNUM, 40),
    _pattern("postman-key", ("postman_key", *KEY), lambda r: f"PMAK-{text(r, HEX, 24)}-{text(r, HEX, 34)}"),
    _pattern(
        "terraform-token",
        ("tfe_token", *TOKEN),
        lambda r: f"{text(r, ALNUM, 14)}.atlasv1.{text(r, ALNUM, 67)}",
    ),
    _marked("facebook-token", ("facebook_token", *TOKEN), "EAA", ALNUM, 150),
    _marked("age-key", ("age_key", "identity_key"), "AGE-SECRET-KEY-1", UPPER + DIGITS, 58),
    _marked("ethereum-key", ("private_key", "wallet_key"), "0x", HEX, 64),
    _marked("django-key", ("secret_key",), "django-insecure-", LOWER + DIGITS + "!@%^*(-_=+)", 50),
    _pattern("hex-key-32", (*KEY, *SECRET), lambda r: mixed(r, HEX, 32), shaped=False),
    _pattern("hex-key-64", (*KEY, *SECRET), lambda r: mixed(r, HEX, 64), shaped=False),
    _pattern("rails-key", ("secret_key_base",), lambda r: mixed(r, HEX, 128), shaped=False),
    _pattern("base64-key", (*KEY, *SECRET), lambda r: encoded(r, 32), shaped=False),
    _pattern(
        "uuid-key", (*KEY, *TOKEN), lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)), shaped=False
    ),
    _pattern(
        "otp-seed", ("totp_secret", "otp_secret", "mfa_secret"), lambda r: text(r, BASE32, 32), shaped=False
    ),
    _pattern("random-token-40", (*TOKEN, *SECRET, *KEY), lambda r: mixed(r, ALNUM, 40), shaped=False),
    _pattern("long-token", (*TOKEN, *SECRET), lambda r: mixed(r, URLSAFE, r.randint(130, 500)), shaped=False),
    _pattern("random-token-24", (*TOKEN, *SECRET, *KEY), lambda r: mixed(r, ALNUM, 24), shaped=False),
    _pattern("random-password-16", PASSWORD, lambda r: mixed(r, TYPED, 16), shaped=False),
    _pattern("random-password-10", PASSWORD, lambda r: mixed(r, TYPED, 10), shaped=False),
    _pattern("human-password", PASSWORD, _human, shaped=False),
    _pattern(
        "digits-password",
        ("pin_password", *PASSWORD),
        lambda r: text(r, DIGITS, r.randint(8, 12)),
        shaped=False,
    ),
    _pattern("dashed-passphrase", PHRASE, lambda r: "-".join(r.choices(WORDS, k=4)), shaped=False),
    _around("pem-rsa", ("private_key", "tls_key"), _pem("RSA PRIVATE KEY", 600), block=True),
    _around("pem-ec", ("private_key", "signing_key"), _pem("EC PRIVATE KEY", 118), block=True),
    _around("pem-openssh", ("ssh_key", "deploy_key"), _pem("OPENSSH PRIVATE KEY", 280), block=True),
    _around("pgp-block", ("pgp_key", "signing_key"), _pem("PGP PRIVATE KEY BLOCK", 500), block=True),
    _around("pem-one-line", ("private_key", "tls_key"), _pem_one_line),
    _around("pem-base64", ("private_key", "tls_key_b64", "kubeconfig_key"), _pem_base64),
    _around("postgres-url", ("database_url", "dsn"), _url("postgresql", ":5432/app")),
    _around("mongodb-url", ("mongo_uri", "database_url"), _url("mongodb+srv", "/app?retryWrites=true")),
    _around("redis-url", ("redis_url", "broker_url"), _url("redis", ":6379/0", user=False)),
    _around("amqp-url", ("broker_url", "amqp_url"), _url("amqp", ":5672//")),
    _around("https-url", ("git_remote", "registry_url"), _url("https", "/simple/")),
    _around(
        "ado-server-first",
        ("connection_string", "conn_str"),
        _ado(("Server", "Database", "User Id", "Password")),
    ),
    _around(
        "ado-password-first",
        ("connection_string", "conn_str"),
        _ado(("Password", "User Id", "Server", "Database")),
    ),
    _around("odbc-pwd-middle", ("connection_string", "odbc"), _ado(("Uid", "Pwd", "Database", "Server"))),
    _around("jdbc-url", ("jdbc_url", "datasource_url"), _jdbc),
    _around("libpq-dsn", ("dsn", "conninfo"), _dsn),
    _around("query-parameter", ("endpoint", "feed_url"), _query),
    _around("bearer-header", ("authorization", "auth_header"), _bearer),
    _around("basic-header", ("authorization", "auth_header"), _basic),
    _around("header-line", ("header", "extra_header"), _header_line),
    _around("session-cookie", ("header", "cookie_header"), _cookie),
    _around("curl-user", ("command", "probe"), _curl_user),
    _around("command-flag", ("command", "cmd"), _command_flag),
)
