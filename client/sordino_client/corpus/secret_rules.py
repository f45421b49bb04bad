"""Credentials that are known by their own shape: our rules, each anchored to something that only its kind has.

A rule is a name, literals and a regular expression. The expression runs only on text that holds one of the literals,
because a substring search is a hundred times cheaper than a regular expression. Where a rule has a group `secret`,
that part is the credential; otherwise all that it matched is.

The formats are those the issuers document (AWS IAM identifiers, GitHub's and GitLab's token prefixes, Slack, Stripe,
Google, npm, PyPI, RFC 7519 for JWT, RFC 7468 for private keys).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sordino_client.corpus.secret_values import bits_per_character, is_placeholder, is_sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where a credential stands in a text, and the rule that found it. `certain`: no doubt and no doubtful literal."""

    start: int
    end: int
    rule: str
    certain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of credential. `name` may be shown and counted; what it matched may not."""

    name: str
    literals: tuple[str, ...]  # at least one occurs in every text that the expression matches
    expression: re.Pattern[str]
    confirm: Callable[[str], bool]  # a second look at what was matched
    certain: bool
    fold: bool = False  # literals are lower case, to be looked for in the lower-cased text

    def spans(self, text: str) -> Iterator[Span]:
        """Every such credential in the text. The literals are not tested here."""
        group = "secret" if "secret" in self.expression.groupindex else 0
        for match in self.expression.finditer(text):
            if self.confirm(match[group]):
                start, end = match.span(group)
                yield Span(start=start, end=end, rule=self.name, certain=self.certain)


def _real(value: str) -> bool:
    return not is_sample(value)


def _password(value: str) -> bool:
    return not is_placeholder(value)


def _drawn(value: str) -> bool:
    # Of random base64 strings of 20 characters, 97 in 100 hold a digit; of dotted names in code, few do.
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return mixed and bits_per_character(value) >= 3.0 and not is_sample(value)


def _always(_: str) -> bool:
    return True


def _rule(
    name: str,
    literals: str,
    expression: str,
    *,
    confirm: Callable[[str], bool] = _real,
    certain: bool = True,
    fold: bool = False,
) -> Rule:
    return Rule(
        name=name,
        literals=tuple(literals.split()),
        expression=re.compile(expression, re.IGNORECASE if fold else 0),
        confirm=confirm,
        certain=certain,
        fold=fold,
    )


_END = r"(?![A-Za-z0-9])"
_BEGIN = r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
# What may stand between the lines of a key in code: breaks, written or escaped, quotes, operators, comment marks.
_BETWEEN = r"(?:\\[nrt\\]|[\s\"'`+,;.#*/>|-])"
_LINE = re.compile(r"[A-Za-z0-9+/=]{16,}")


def _key_body(body: str) -> bool:
    """Whether what follows a BEGIN line is a key and not code that speaks of one."""
    return 2 * sum(map(len, _LINE.findall(body))) >= len(body.strip()) and not is_sample(body)


def _encoded_key(value: str) -> bool:
    try:
        return b"PRIVATE KEY" in base64.b64decode(value[:64])
    except ValueError:
        return False


RULES: tuple[Rule, ...] = (
    _rule(
        "private-key",
        "PRIVATE",
        _BEGIN + r"(?P<secret>(?:(?!-----BEGIN)[\s\S]){16,32768}?)(?=-----END)",
        confirm=_key_body,
    ),
    _rule(
        "private-key",
        "PRIVATE",
        _BEGIN
        + _BETWEEN
        + r"{0,40}(?P<secret>[A-Za-z0-9+/=]{16,}(?:"
        + _BETWEEN
        + r"{1,40}[A-Za-z0-9+/=]{16,}){0,2000})",
        confirm=_key_body,
    ),
    _rule(
        "private-key-base64",
        "LS0tLS1CRUdJTi",
        r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{32,}(?:(?:\\n|\s){1,40}[A-Za-z0-9+/=]{16,})*",
        confirm=_encoded_key,
    ),
    _rule(
        "putty-key",
        "PuTTY-User-Key-File-",
        r"PuTTY-User-Key-File-\d:[^\n]*\n(?P<secret>(?:[A-Z][A-Za-z-]+: [^\n]*\n|[A-Za-z0-9+/=]{16,}\n?)+)",
        confirm=_always,
    ),
    _rule("age-key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _rule(
        "aws-access-key", "AKIA ASIA ABIA ACCA", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}" + _END
    ),
    _rule(
        "aws-secret-key",
        "aws",
        r"aws.{0,24}?(?:secret|key|token).{0,24}?[\"'=:\s](?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        confirm=_drawn,
        fold=True,
    ),
    _rule(
        "github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,255}" + _END
    ),
    _rule("github-pat", "github_pat_", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _rule(
        "gitlab-token",
        "glpat- gldt- glft- glsoat- glrt- glptt- glcbt- glimt- glagent- glffct- GR1348941",
        r"(?:(?<![A-Za-z0-9])gl(?:pat|dt|ft|soat|rt|ptt|cbt|imt|agent|ffct)-|GR1348941)[A-Za-z0-9_\-.]{20,}",
    ),
    _rule(
        "slack-token",
        "xoxa- xoxb- xoxe- xoxe. xoxo- xoxp- xoxr- xoxs- xapp-",
        r"(?:xox[abeoprs][-.]|xapp-)[A-Za-z0-9-]*\d[A-Za-z0-9-]{9,}",
    ),
    _rule(
        "slack-webhook",
        "hooks.slack.com/",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9_/]{20,}",
    ),
    _rule(
        "stripe-key",
        "sk_live_ rk_live_ sk_test_ rk_test_ whsec_",
        r"(?<![A-Za-z0-9])(?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{16,}",
    ),
    _rule("google-api-key", "AIza", r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    _rule(
        "google-oauth", "GOCSPX- ya29.", r"GOCSPX-[A-Za-z0-9_-]{28}|(?<![A-Za-z0-9])ya29\.[0-9A-Za-z_-]{40,}"
    ),
    _rule("jwt", "eyJ", r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    _rule(
        "npm-token",
        "npm_ _authToken",
        r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}" + _END + r"|_authToken\s*=\s*[A-Za-z0-9_-]{20,}",
    ),
    _rule("pypi-token", "pypi-AgE", r"pypi-AgE[A-Za-z0-9_-]{50,}"),
    _rule(
        "openai-key",
        "sk-proj- T3BlbkFJ sk-svcacct-",
        r"sk-(?:proj|svcacct)-[A-Za-z0-9_-]{40,}|sk-[A-Za-z0-9_-]*T3BlbkFJ[A-Za-z0-9]{20}",
    ),
    _rule("anthropic-key", "sk-ant-", r"sk-ant-[a-z]+\d\d-[A-Za-z0-9_-]{80,}"),
    _rule("hugging-face-token", "hf_", r"(?<![A-Za-z0-9_])hf_[A-Za-z]{34}" + _END),
    _rule("sendgrid-key", "SG.", r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _rule("twilio-key", "SK AC", r"(?<![A-Za-z0-9_])(?:SK|AC)[0-9a-f]{32}" + _END),
    _rule("azure-storage-key", "AccountKey=", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    _rule("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"do[opr]_v1_[a-f0-9]{64}"),
    _rule(
        "vault-token",
        "hvs. hvb. .atlasv1.",
        r"(?<![A-Za-z0-9])hv[sb]\.[A-Za-z0-9_-]{24,}|[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}",
    ),
    _rule("docker-token", "dckr_pat_ dckr_oat_", r"dckr_[po]at_[A-Za-z0-9_-]{27,}"),
    _rule("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _rule("databricks-token", "dapi", r"(?<![A-Za-z0-9])dapi[a-f0-9]{32}" + _END),
    _rule(
        "grafana-token", "glsa_ glc_eyJ", r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_eyJ[A-Za-z0-9+/=]{32,}"
    ),
    _rule(
        "linear-or-postman-key",
        "lin_api_ PMAK- NRAK-",
        r"lin_api_[A-Za-z0-9]{40}|PMAK-[a-f0-9]{24}-[a-f0-9]{34}|NRAK-[A-Z0-9]{27}",
    ),
    _rule("telegram-token", ":AA", r"(?<![0-9])\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    _rule("artifactory-key", "AKCp", r"(?<![A-Za-z0-9])AKCp[A-Za-z0-9]{60,}"),
    _rule(
        "azure-client-secret",
        "Q~",
        r"(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])",
    ),
    _rule("signed-url", "sig=", r"[?&]sig=(?P<secret>[A-Za-z0-9%+/_-]{32,}=*)"),
    _rule("facebook-token", "EAA", r"(?<![A-Za-z0-9])EAA[A-Za-z0-9]{80,}"),
    _rule("firebase-key", ":APA91b", r"[A-Za-z0-9_-]{8,}:APA91b[A-Za-z0-9_-]{100,}"),
    _rule("discord-webhook", "/api/webhooks/", r"/api/webhooks/(?P<secret>\d{16,20}/[A-Za-z0-9_-]{60,})"),
    _rule(
        "discord-token",
        ".",
        r"(?<![A-Za-z0-9_-])[MNO][A-Za-z0-9]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}(?![A-Za-z0-9_-])",
        confirm=_drawn,
    ),
    _rule("mailgun-key", "key-", r"(?<![A-Za-z0-9])key-[0-9a-f]{32}" + _END, confirm=_drawn),
    _rule("mailchimp-key", "-us", r"(?<![0-9a-f])[0-9a-f]{32}-us\d{1,2}(?![0-9a-z])"),
    _rule("django-key", "django-insecure-", r"django-insecure-[^\s\"']{20,}"),
    _rule("new-relic-key", "NRAL", r"(?<![0-9a-f])[0-9a-f]{36}NRAL"),
    _rule(
        "connection-string",
        "://",
        r"[a-z][a-z0-9+.-]{1,30}://[^\s:@/'\"<>`]{0,64}:(?P<secret>[^\s@/'\"<>`]{3,128})@",
        confirm=_password,
    ),
)
