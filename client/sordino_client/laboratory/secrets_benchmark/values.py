"""What planted credentials look like: each function draws one value of a shape with a given random generator.

If the code holds more than the credential (a URL, a header), the function returns both: the text in the code, and the
part of it that must not be left.
"""

from __future__ import annotations

import base64
import json
import re
import string
from collections.abc import Callable
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


def text(random: Random, alphabet: str, length: int) -> str:
    """`length` characters of the alphabet."""
    return "".join(random.choices(alphabet, k=length))


def mixed(random: Random, alphabet: str, length: int) -> str:
    """Like `text`, but with at least one digit and one letter, as password generators do."""
    while True:
        drawn = text(random, alphabet, length)
        if any(map(str.isdigit, drawn)) and any(map(str.isalpha, drawn)):
            return drawn


def encoded(random: Random, size: int) -> str:
    """`size` random bytes in base64."""
    return base64.b64encode(random.randbytes(size)).decode()


def human(random: Random) -> str:
    word = random.choice(WORDS)
    return random.choice(
        (
            f"{word.capitalize()}{random.randint(1950, 2029)}{random.choice('!?*.')}",
            f"{word}{random.choice(WORDS)}{random.randint(10, 999)}",
            f"{word[:3].capitalize()}{random.choice('0143')}{word[3:]}{random.choice('!@%')}{random.randint(1, 99)}",
            f"{word.upper()}_{random.choice(WORDS)}_{random.randint(1, 99)}",
        )
    )


def jwt(random: Random) -> str:
    def part(value: str) -> str:
        return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")

    head = part('{"alg":"HS256","typ":"JWT"}')
    body = part(json.dumps({"sub": str(random.randrange(10**9)), "iat": random.randrange(10**9)}))
    return f"{head}.{body}.{text(random, URLSAFE, 43)}"


def pem_lines(random: Random, label: str, size: int) -> list[str]:
    body = encoded(random, size)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return [f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"]


def pem(label: str, size: int) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        lines = pem_lines(random, label, size)
        return "\n".join(lines), "\n".join(lines[1:-1])

    return make


def pem_one_line(random: Random) -> tuple[str, str]:
    lines = pem_lines(random, "RSA PRIVATE KEY", 600)
    return "\\n".join(lines), "\\n".join(lines[1:-1])


def pem_base64(random: Random) -> tuple[str, str]:
    value = base64.b64encode("\n".join(pem_lines(random, "PRIVATE KEY", 300)).encode()).decode()
    return value, value


def word(random: Random) -> str:
    return random.choice(WORDS)


def url(scheme: str, tail: str, user: bool = True) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        secret = (
            mixed(random, ALNUM, random.randint(8, 20))
            if random.random() < 0.6
            else human(random).replace("@", "!").replace("?", "!").replace("%", "-")
        )
        name = word(random) if user else ""
        return f"{scheme}://{name}:{secret}@{word(random)}.internal{tail}", secret

    return make


def ado(order: tuple[str, ...]) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        secret = mixed(random, ALNUM + "!%*", random.randint(8, 16))
        values = {
            "Server": f"{word(random)}.internal",
            "Database": word(random),
            "User Id": word(random),
            "Uid": word(random),
            "Password": secret,
            "Pwd": secret,
        }
        return ";".join(f"{key}={values[key]}" for key in order) + ";", secret

    return make


def around(template: str, draw: Callable[[Random], str]) -> Callable[[Random], tuple[str, str]]:
    """The text in the code: `$V` is replaced by the credential from `draw`, and each `$W` by a word."""
    parts = re.split(r"(\$[VW])", template)

    def make(random: Random) -> tuple[str, str]:
        secret = draw(random)
        held = (secret if part == "$V" else word(random) if part == "$W" else part for part in parts)
        return "".join(held), secret

    return make


def of(alphabet: str, length: int) -> Callable[[Random], str]:
    """Draws `mixed` of that length."""
    return lambda random: mixed(random, alphabet, length)


def query(random: Random) -> tuple[str, str]:
    name = ("api_key", "access_token", "token", "key")
    secret = mixed(random, ALNUM, 32)
    return f"https://api.{word(random)}.example/v2/items?{random.choice(name)}={secret}&page=1", secret


def header_line(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 32)
    name = random.choice(("X-API-Key", "X-Auth-Token", "PRIVATE-TOKEN", "X-Vault-Token"))
    return f"{name}: {secret}", secret


def command_flag(random: Random) -> tuple[str, str]:
    secret = mixed(random, ALNUM, 14)
    command = random.choice(("mysql", "deploy", "helmctl"))
    return f"{command} --user {word(random)} --password{random.choice('= ')}{secret} --verbose", secret


def _slack(random: Random) -> str:
    ids = UPPER + DIGITS
    return f"T{text(random, ids, 10)}/B{text(random, ids, 10)}/{text(random, ALNUM, 24)}"


jdbc = around("jdbc:postgresql://$W.internal:5432/$W?user=$W&password=$V", of(ALNUM, 12))
dsn = around("host=$W user=$W password=$V dbname=$W sslmode=require", of(ALNUM, 12))
sas = around(
    "https://$W.blob.core.windows.net/c?sv=2023-11-03&se=2027-01-01&sr=c&sp=rl&sig=$V",
    lambda random: encoded(random, 32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
)
azure_storage = around(
    "DefaultEndpointsProtocol=https;AccountName=$W;AccountKey=$V;EndpointSuffix=core.windows.net",
    lambda random: encoded(random, 64),
)
bearer = around("Bearer $V", lambda random: mixed(random, URLSAFE, random.choice((32, 40, 64))))
basic = around(
    "Basic $V",
    lambda random: base64.b64encode(f"{word(random)}:{mixed(random, ALNUM, 14)}".encode()).decode(),
)
cookie = around("Cookie: sessionid=$V; Path=/", of(ALNUM, 40))
curl_user = around("curl -u $W:$V https://$W.internal/health", of(ALNUM, 14))
webhook = around("https://hooks.slack.com/services/$V", _slack)
discord_hook = around(
    "https://discord.com/api/webhooks/$V",
    lambda random: f"{text(random, DIGITS, 18)}/{text(random, URLSAFE, 68)}",
)
