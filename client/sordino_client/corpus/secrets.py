"""Does this file hold a credential? A file that does is left out before anything is tokenised.

Two opinions, one interface: our own anchored rules (`secret_rules`), and the named detectors of Yelp's detect-secrets.
Of those, the entropy, keyword and public-address plugins are left out on purpose: on source code they flag almost
every file. detect-secrets takes every line through every detector (700 lines a second); here a detector sees only the
lines that can hold what it looks for, which is a hundred times faster and gives the same answer.

Only names of rules leave this module: never the credential, its line or its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol

from sordino_client.corpus.secret_rules import RULES, is_placeholder


class _Detector(Protocol):
    secret_type: str

    def analyze_string(self, string: str) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class _Named:
    """A detector of detect-secrets, and what a line must hold before the detector is asked about it.

    Both are necessary conditions of the detector's own expressions (a test holds them to it): one of the literals, in
    any case, and one of the hints.
    """

    name: str
    module: str
    literals: tuple[str, ...]
    hints: tuple[re.Pattern[str], ...]


def _named(name: str, module: str, literals: str, *hints: str) -> _Named:
    words = tuple(literals.split())
    expressions = hints or ("|".join(map(re.escape, words)),)
    flags = 0 if hints else re.IGNORECASE
    return _Named(name, module, words, tuple(re.compile(hint, flags) for hint in expressions))


_NAMED: tuple[_Named, ...] = (
    _named("ArtifactoryDetector", "artifactory", "akc ap", r"AKC[a-zA-Z0-9]{10}", r"AP[\dA-F][a-zA-Z0-9]{8}"),
    _named(
        "AWSKeyDetector",
        "aws",
        "akia asia abia acca a3t aws",
        r"A(?:3T[A-Z0-9]|BIA|CCA|KIA|SIA)[0-9A-Z]{16}",
        r"['\"][0-9a-zA-Z/+]{40}['\"]",
    ),
    _named("AzureStorageKeyDetector", "azure_storage_key", "accountkey="),
    _named("BasicAuthDetector", "basic_auth", "://", r"://[^\s:/]+:[^\s:/]+@"),
    _named(
        "CloudantDetector",
        "cloudant",
        "cl",
        r"[0-9a-f]{64}",
        r"(?i:cl(?:oudant|ou)?(?:[-_ ]?api)?[-_ ]?(?:key|pwd|pw|pass|token))",
        r"cloudant\.com",
    ),
    _named("DiscordBotTokenDetector", "discord", ".", r"\.[a-zA-Z\d_-]{6}\.[a-zA-Z\d_-]{27}"),
    _named("GitHubTokenDetector", "github_token", "ghp_ gho_ ghu_ ghs_ ghr_"),
    _named(
        "GitLabTokenDetector",
        "gitlab_token",
        "glpat- gldt- glft- glsoat- glrt- gr1348941 glcbt- glimt- glptt- glagent- gloas-",
    ),
    _named(
        "IbmCloudIamDetector", "ibm_cloud_iam", "key pwd pass token", r"[a-zA-Z0-9_-]{44}(?![a-zA-Z0-9_-])"
    ),
    _named("IbmCosHmacDetector", "ibm_cos_hmac", "secret", r"(?i:[a-f0-9]{48})"),
    _named("JwtTokenDetector", "jwt", "eyj", r"eyJ[A-Za-z0-9-_=]+\."),
    _named("MailchimpDetector", "mailchimp", "-us", r"(?<=[0-9a-z]{32})-us\d"),
    _named("NpmDetector", "npm", ":_authtoken="),
    _named("OpenAIDetector", "openai", "t3blbkfj"),
    _named(
        "PrivateKeyDetector",
        "private_key",
        "begin putty-user-key-file-2",
        r"PRIVATE KEY",
        r"PuTTY-User-Key-File-2",
    ),
    _named("PypiTokenDetector", "pypi_token", "pypi-age"),
    _named("SendGridDetector", "sendgrid", "sg.", r"SG\.[a-zA-Z0-9_-]{22}\."),
    _named(
        "SlackDetector",
        "slack",
        "xox hooks.slack.com",
        r"(?i:xox[abposr]-\d)",
        r"(?i:hooks\.slack\.com/services/T)",
    ),
    _named("SoftlayerDetector", "softlayer", "sl softlayer", r"(?i:[a-z0-9]{64})"),
    _named("SquareOAuthDetector", "square_oauth", "sq0csp-"),
    _named("StripeDetector", "stripe", "k_live_"),
    _named("TelegramBotTokenDetector", "telegram_token", ":", r"(?<=\d{8}):[0-9A-Za-z_-]{35}"),
    _named("TwilioKeyDetector", "twilio", "ac sk", r"AC[a-z0-9]{32}", r"SK[a-z0-9]{32}"),
)


@cache
def _detector(named: _Named) -> _Detector:
    # Imported when first needed: detect-secrets pulls in `requests`. Its verification, which would send what was found
    # to the issuer, is a different method and is never called.
    module = import_module(f"detect_secrets.plugins.{named.module}")
    detector: _Detector = getattr(module, named.name)()
    return detector


def find_secret(text: str) -> str | None:
    """The name of the first rule that finds a credential in the text, or None. Nothing of the text is returned."""
    folded = text.lower()
    for rule in RULES:
        haystack = folded if rule.fold else text
        if any(literal in haystack for literal in rule.literals) and rule.found_in(text):
            return rule.name
    for named in _NAMED:
        if any(literal in folded for literal in named.literals) and _asks_detector(named, text):
            return f"detect-secrets:{named.name.removesuffix('Detector')}"
    return None


def _asks_detector(named: _Named, text: str) -> bool:
    for line in _lines_with(named.hints, text):
        found = _detector(named).analyze_string(line)
        if any(not (named.name == "BasicAuthDetector" and is_placeholder(value)) for value in found):
            return True
    return False


def _lines_with(hints: tuple[re.Pattern[str], ...], text: str) -> Iterator[str]:
    """Every line in which one of the hints is found, once per hint."""
    for hint in hints:
        position = 0
        while (found := hint.search(text, position)) is not None:
            start = text.rfind("\n", 0, found.start()) + 1
            end = text.find("\n", found.end())
            end = len(text) if end < 0 else end
            yield text[start:end]
            position = end
