"""Credentials in text: our own rules, each anchored to something that only its kind of credential has.

A rule is a name, literals and a regular expression. The expression runs only on text that holds one of the literals,
because a substring search is a hundred times cheaper than a regular expression. A rule that is not anchored (any long
random string) would throw away good files and teach people to switch the scan off; see `secrets` for the second
opinion from detect-secrets.

The formats are those the issuers document (AWS IAM identifiers, GitHub's and GitLab's token prefixes, Slack, Stripe,
Google, npm, PyPI, RFC 7519 for JWT, RFC 7468 for private keys).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of credential. `name` may be shown and counted; what it matched may not."""

    name: str
    literals: tuple[str, ...]  # at least one occurs in every text that the expression matches
    expression: re.Pattern[str]
    confirm: Callable[[re.Match[str]], bool] | None = None  # a second look at what was matched
    fold: bool = False  # literals are lower case, to be looked for in the lower-cased text

    def found_in(self, text: str) -> bool:
        """Whether the text holds such a credential. The literals are not tested here."""
        if self.confirm is None:
            return self.expression.search(text) is not None
        return any(map(self.confirm, self.expression.finditer(text)))


_PLACEHOLDER = re.compile(
    r"[<{$%\[].*|.*[>}%\]]|x{3,}.*|\*+|\.{2,}|-+|_+|#+|(?:my|your|the|some|test|fake|dummy|example|sample)?[-_.]?"
    r"(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token|user(?:name)?|changeme|change[-_]me|example|placeholder|none|null"
    r"|foo|bar|baz|test|admin|root|guest|postgres|mysql|redacted|hidden|p|s)\d{0,4}|\d{1,4}|abc\d*|qwerty",
    re.IGNORECASE,
)


def is_placeholder(value: str) -> bool:
    """Whether a password is one that documentation uses: `${PASSWORD}`, `<secret>`, `password`, `xxxx`, `foo`."""
    return _PLACEHOLDER.fullmatch(value) is not None


def bits_per_character(value: str) -> float:
    """Shannon entropy of the characters of a non-empty string, in bits (a random base64 key of 32 has about 4.5)."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def _real_password(match: re.Match[str]) -> bool:
    return not is_placeholder(match["password"])


def _random_value(match: re.Match[str]) -> bool:
    # Of random base64 strings of 20 characters, 97 in 100 hold a digit; of dotted names in code, few do.
    value = match["password"]
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return mixed and bits_per_character(value) >= 3.5 and not is_placeholder(value)


def _rule(
    name: str,
    literals: str,
    expression: str,
    *,
    confirm: Callable[[re.Match[str]], bool] | None = None,
    fold: bool = False,
) -> Rule:
    flags = re.IGNORECASE if fold else 0
    return Rule(
        name=name,
        literals=tuple(literals.split()),
        expression=re.compile(expression, flags),
        confirm=confirm,
        fold=fold,
    )


_END = r"(?![A-Za-z0-9])"

RULES: tuple[Rule, ...] = (
    _rule("private-key", "PRIVATE", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    _rule("putty-key", "PuTTY-User-Key-File-", r"PuTTY-User-Key-File-\d:"),
    _rule("age-key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _rule(
        "aws-access-key", "AKIA ASIA ABIA ACCA", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}" + _END
    ),
    _rule(
        "aws-secret-key",
        "aws",
        r"aws.{0,24}?(?:secret|key|token).{0,24}?[\"'=:\s](?P<password>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        confirm=_random_value,
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
    _rule(
        "connection-string",
        "://",
        r"[a-z][a-z0-9+.-]{1,30}://[^\s:@/'\"<>`]{0,64}:(?P<password>[^\s@/'\"<>`]{3,128})@",
        confirm=_real_password,
    ),
    _rule(
        "connection-string-password",
        "jdbc: server= source= host=",
        r"(?:jdbc:|\b(?:server|data source|host)=)[^\n]{0,200}?[;?&\s](?:password|pwd)=(?P<password>[^;&\s'\"]{4,128})",
        confirm=_real_password,
        fold=True,
    ),
    _rule(
        "authorization-header",
        "bearer basic",
        r"authorization['\"]?\s{0,4}[:=,]\s{0,4}['\"]?(?:bearer|basic)\s+(?P<password>[A-Za-z0-9+/_.=-]{20,})",
        confirm=_random_value,
        fold=True,
    ),
    _rule(
        "assigned-secret",
        "passw pwd secret token api_key apikey api-key credential",
        r"(?:passwo?r?d|passwd|pwd|secret|token|api[_-]?key|credential)s?[\w-]{0,16}['\"]?\]?\s{0,4}(?::=|[:=])\s{0,4}"
        r"['\"](?P<password>[A-Za-z0-9+/_.=!@#$%^&*~-]{20,128})['\"]",
        confirm=_random_value,
        fold=True,
    ),
)
