"""The kinds of credential that the benchmark plants. Every value is random: none is a real credential.

A kind defines how a value looks, the names of variables for it, and whether the value can be recognised by its shape. A
value without such a shape (a password) is planted only where a name, a key or a call says what it is.
"""

from __future__ import annotations

import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sordino_client.laboratory.secrets_benchmark import values

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
    """One value: `literal` is the text in the code, `secret` the part of it that must not be left."""

    literal: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialKind:
    """`names`: variable names in snake case. `shaped`: recognised by its shape. `block`: has several lines."""

    name: str
    draw: Callable[[Random], Drawn]
    names: tuple[str, ...]
    shaped: bool = True
    block: bool = False


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
    return _pattern(name, names, lambda random: prefix + values.text(random, alphabet, length) + end)


def _around(
    name: str, names: tuple[str, ...], make: Callable[[Random], tuple[str, str]], *, block: bool = False
) -> CredentialKind:
    def draw(random: Random) -> Drawn:
        return Drawn(*make(random))

    return CredentialKind(name=name, draw=draw, names=names, block=block)


KINDS: tuple[CredentialKind, ...] = (
    _marked("aws-access-key-id", ("aws_access_key_id", "access_key_id"), "AKIA", values.BASE32, 16),
    _pattern(
        "aws-secret-access-key",
        ("aws_secret_access_key", "secret_access_key"),
        lambda r: values.text(r, values.BASE64, 40),
    ),
    _pattern(
        "aws-session-token",
        ("aws_session_token", "session_token"),
        lambda r: values.encoded(r, r.choice((240, 300))),
    ),
    _marked("github-token", ("github_token", *TOKEN), "ghp_", values.ALNUM, 36),
    _pattern(
        "github-fine-grained",
        ("github_token", *TOKEN),
        lambda r: f"github_pat_{values.text(r, values.ALNUM, 22)}_{values.text(r, values.ALNUM, 59)}",
    ),
    _marked("gitlab-token", ("gitlab_token", *TOKEN), "glpat-", values.URLSAFE, 20),
    _pattern(
        "slack-token",
        ("slack_token", *TOKEN),
        lambda r: (
            f"xoxb-{values.text(r, values.DIGITS, 12)}-{values.text(r, values.DIGITS, 12)}-{values.text(r, values.ALNUM, 24)}"
        ),
    ),
    _around("slack-webhook", ("webhook_url", "slack_url"), values.webhook),
    _around("discord-webhook", ("webhook_url", "discord_url"), values.discord_hook),
    _pattern(
        "discord-bot-token",
        ("discord_token", *TOKEN),
        lambda r: (
            f"M{values.text(r, values.ALNUM, 23)}.{values.text(r, values.ALNUM, 6)}.{values.text(r, values.URLSAFE, 38)}"
        ),
    ),
    _marked("stripe-key", ("stripe_key", *KEY), "sk_live_", values.ALNUM, 24),
    _marked("google-api-key", ("google_api_key", *KEY), "AIza", values.URLSAFE, 35),
    _marked("google-client-secret", SECRET, "GOCSPX-", values.URLSAFE, 28),
    _pattern(
        "firebase-key",
        ("fcm_key", *KEY),
        lambda r: f"AAAA{values.text(r, values.URLSAFE, 7)}:APA91b{values.text(r, values.URLSAFE, 134)}",
    ),
    _pattern("jwt", (*TOKEN, "id_token"), values.jwt),
    _marked("npm-token", ("npm_token", *TOKEN), "npm_", values.ALNUM, 36),
    _marked("pypi-token", ("pypi_token", *TOKEN), "pypi-AgEIcHlwaS5vcmcC", values.URLSAFE, 150),
    _marked("openai-key", ("openai_api_key", *KEY), "sk-proj-", values.URLSAFE, 74),
    _marked("anthropic-key", ("anthropic_api_key", *KEY), "sk-ant-api03-", values.URLSAFE, 93, "AA"),
    _marked("hugging-face-token", ("hf_token", *TOKEN), "hf_", string.ascii_letters, 34),
    _pattern(
        "sendgrid-key",
        ("sendgrid_key", *KEY),
        lambda r: f"SG.{values.text(r, values.URLSAFE, 22)}.{values.text(r, values.URLSAFE, 43)}",
    ),
    _marked("twilio-key", ("twilio_sid", "twilio_key"), "SK", values.HEX, 32),
    _marked("mailgun-key", ("mailgun_key", *KEY), "key-", values.HEX, 32),
    _pattern(
        "mailchimp-key",
        ("mailchimp_key", *KEY),
        lambda r: f"{values.text(r, values.HEX, 32)}-us{r.randint(1, 21)}",
    ),
    _pattern(
        "azure-client-secret",
        ("azure_client_secret", *SECRET),
        lambda r: f"{values.text(r, values.ALNUM, 3)}8Q~{values.text(r, values.ALNUM + '_-.', 34)}",
    ),
    _around("azure-storage-string", ("storage_connection", "connection_string"), values.azure_storage),
    _around("azure-sas-url", ("blob_url", "container_url"), values.sas),
    _marked("digitalocean-token", ("do_token", *TOKEN), "dop_v1_", values.HEX, 64),
    _marked("vault-token", ("vault_token", *TOKEN), "hvs.", values.URLSAFE, 90),
    _marked("docker-token", ("docker_token", *TOKEN), "dckr_pat_", values.URLSAFE, 27),
    _marked("shopify-token", ("shopify_token", *TOKEN), "shpat_", values.HEX, 32),
    _marked("databricks-token", ("databricks_token", *TOKEN), "dapi", values.HEX, 32),
    _pattern(
        "grafana-token",
        ("grafana_token", *TOKEN),
        lambda r: f"glsa_{values.text(r, values.ALNUM, 32)}_{values.text(r, values.HEX, 8)}",
    ),
    _pattern(
        "telegram-token",
        ("telegram_token", "bot_token"),
        lambda r: f"{values.text(r, values.DIGITS, 10)}:AA{values.text(r, values.URLSAFE, 33)}",
    ),
    _marked("linear-key", ("linear_key", *KEY), "lin_api_", values.ALNUM, 40),
    _pattern(
        "postman-key",
        ("postman_key", *KEY),
        lambda r: f"PMAK-{values.text(r, values.HEX, 24)}-{values.text(r, values.HEX, 34)}",
    ),
    _pattern(
        "terraform-token",
        ("tfe_token", *TOKEN),
        lambda r: f"{values.text(r, values.ALNUM, 14)}.atlasv1.{values.text(r, values.ALNUM, 67)}",
    ),
    _marked("facebook-token", ("facebook_token", *TOKEN), "EAA", values.ALNUM, 150),
    _marked("age-key", ("age_key", "identity_key"), "AGE-SECRET-KEY-1", values.UPPER + values.DIGITS, 58),
    _marked("ethereum-key", ("private_key", "wallet_key"), "0x", values.HEX, 64),
    _marked(
        "django-key", ("secret_key",), "django-insecure-", values.LOWER + values.DIGITS + "!@%^*(-_=+)", 50
    ),
    _pattern("hex-key-32", (*KEY, *SECRET), lambda r: values.mixed(r, values.HEX, 32), shaped=False),
    _pattern("hex-key-64", (*KEY, *SECRET), lambda r: values.mixed(r, values.HEX, 64), shaped=False),
    _pattern("rails-key", ("secret_key_base",), lambda r: values.mixed(r, values.HEX, 128), shaped=False),
    _pattern("base64-key", (*KEY, *SECRET), lambda r: values.encoded(r, 32), shaped=False),
    _pattern(
        "uuid-key", (*KEY, *TOKEN), lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)), shaped=False
    ),
    _pattern(
        "otp-seed",
        ("totp_secret", "otp_secret", "mfa_secret"),
        lambda r: values.text(r, values.BASE32, 32),
        shaped=False,
    ),
    _pattern(
        "random-token-40", (*TOKEN, *SECRET, *KEY), lambda r: values.mixed(r, values.ALNUM, 40), shaped=False
    ),
    _pattern(
        "long-token",
        (*TOKEN, *SECRET),
        lambda r: values.mixed(r, values.URLSAFE, r.randint(130, 500)),
        shaped=False,
    ),
    _pattern(
        "random-token-24", (*TOKEN, *SECRET, *KEY), lambda r: values.mixed(r, values.ALNUM, 24), shaped=False
    ),
    _pattern("random-password-16", PASSWORD, lambda r: values.mixed(r, values.TYPED, 16), shaped=False),
    _pattern("random-password-10", PASSWORD, lambda r: values.mixed(r, values.TYPED, 10), shaped=False),
    _pattern("human-password", PASSWORD, values.human, shaped=False),
    _pattern(
        "digits-password",
        ("pin_password", *PASSWORD),
        lambda r: values.text(r, values.DIGITS, r.randint(8, 12)),
        shaped=False,
    ),
    _pattern("dashed-passphrase", PHRASE, lambda r: "-".join(r.choices(values.WORDS, k=4)), shaped=False),
    _around("pem-rsa", ("private_key", "tls_key"), values.pem("RSA PRIVATE KEY", 600), block=True),
    _around("pem-ec", ("private_key", "signing_key"), values.pem("EC PRIVATE KEY", 118), block=True),
    _around("pem-openssh", ("ssh_key", "deploy_key"), values.pem("OPENSSH PRIVATE KEY", 280), block=True),
    _around("pgp-block", ("pgp_key", "signing_key"), values.pem("PGP PRIVATE KEY BLOCK", 500), block=True),
    _around("pem-one-line", ("private_key", "tls_key"), values.pem_one_line),
    _around("pem-base64", ("private_key", "tls_key_b64", "kubeconfig_key"), values.pem_base64),
    _around("postgres-url", ("database_url", "dsn"), values.url("postgresql", ":5432/app")),
    _around("mongodb-url", ("mongo_uri", "database_url"), values.url("mongodb+srv", "/app?retryWrites=true")),
    _around("redis-url", ("redis_url", "broker_url"), values.url("redis", ":6379/0", user=False)),
    _around("amqp-url", ("broker_url", "amqp_url"), values.url("amqp", ":5672//")),
    _around("https-url", ("git_remote", "registry_url"), values.url("https", "/simple/")),
    _around(
        "ado-server-first",
        ("connection_string", "conn_str"),
        values.ado(("Server", "Database", "User Id", "Password")),
    ),
    _around(
        "ado-password-first",
        ("connection_string", "conn_str"),
        values.ado(("Password", "User Id", "Server", "Database")),
    ),
    _around(
        "odbc-pwd-middle", ("connection_string", "odbc"), values.ado(("Uid", "Pwd", "Database", "Server"))
    ),
    _around("jdbc-url", ("jdbc_url", "datasource_url"), values.jdbc),
    _around("libpq-dsn", ("dsn", "conninfo"), values.dsn),
    _around("query-parameter", ("endpoint", "feed_url"), values.query),
    _around("bearer-header", ("authorization", "auth_header"), values.bearer),
    _around("basic-header", ("authorization", "auth_header"), values.basic),
    _around("header-line", ("header", "extra_header"), values.header_line),
    _around("session-cookie", ("header", "cookie_header"), values.cookie),
    _around("curl-user", ("command", "probe"), values.curl_user),
    _around("command-flag", ("command", "cmd"), values.command_flag),
)
