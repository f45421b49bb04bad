"""How code writes a credential down: the expressions that `secret_context` reads a line with.

They say where a value stands, never whether it is one: that is for `secret_values`.
"""

from __future__ import annotations

import re

LITERAL = re.compile(
    r'"((?:[^"\\\n]|\\.)*)"' r"|'((?:[^'\\\n]|\\.)*)'" r"|`([^`\n]*)`" r"|\bq[qw]?[({\[]([^)}\]\n]*)[)}\]]"
)
# Between a name and the literal that is assigned to it: brackets, a type, an operator, a wrapper or two.
ASSIGNS = re.compile(
    r"[\w.$-]{0,24}[\"'`)\]}]{0,3}\s*(?:\[\w*\]\s*|\?\s*)?"
    r"(?::\s*&?'?[A-Za-z_][\w \[\]<>.|?&'*:,]{0,40}?\s*(?=[=({\"'`]|$)"
    r"|\s+(?:as\s+|of\s+)?[A-Za-z][\w.<>\[\]]{0,30}(?=\s*=))?"
    r"\s*(?::=|\?\?=|\|\|=|==?>?|=>|->|\|\||\?\?|\?:|//|:|,|\(|\{|\b(?:to|is|or|as|with|by)\b|\.\w+\(|\s)\s*"
    r"(?:(?:[A-Za-z_][\w.:<>\[\]]{0,40}[({]|(?:default|fallback|value|initial|help|type)\w*\s*[=:]|\[\w*\]|\|\w*\||[(\[{<&*@]"
    r"|new\s|return\s|Some\(|<\w+>)\s*){0,3}(?:[brufLR@$]|u8|br|rb|Rb|F)?#{0,2}"
)
NAMES_IT = re.compile(
    r"^\s*(?:-\s*)?(?:\{\s*)?[\"']?(?:name|key|variable|field|env|var)[\"']?\s*[:=]?\s*[\"']?(?P<name>[\w.-]+)[\"']?\s*[,{]?\s*$"
)
VALUE_BELOW = re.compile(
    r"^\s*[\"']?(?:value|default|data|content|stringValue)[\"']?\s*[:=]\s*(?P<quote>[\"']?)(?P<secret>[^\s\"',]+)(?P=quote)"
)
# A bare value behind a name; what may stand in it depends on the language.
BARE = re.compile(
    r"[\"'`\])]{0,2}[ \t]*(?P<operator>:=|\?=|\+=|[=:]|[ \t])[ \t]*(?P<secret>[^\s\"'`,;&<>(){}\[\]|\\]{4,})"
)
DEFAULTED = re.compile(r"(?::-|:=|:|-)(?P<secret>[^\s\"'`{}$]{4,})\}")
PAIR = re.compile(
    r"(?:^|[;&?\s,\"'])(?P<name>password|pwd|passwd|pass|secret|token|api[_-]?key|access[_-]?(?:key|token)|accountkey|sharedaccesskey|auth|key"
    r"|client[_-]?secret|session(?:id)?)\s?=\s?(?P<secret>[^;&\s\"'`<>(){}]{4,})",
    re.IGNORECASE,
)
# Three of these on a line, and it is a connection string, quoted or not.
PAIRED = re.compile(r"\b[A-Za-z][\w ]{0,20}=[^=;\s]+(?:;|\s|$)")
HEADER = re.compile(
    r"(?:authorization|proxy-authorization)[\"']?\s{0,4}[:=,]\s{0,4}[\"']?(?:bearer|token|apikey)\s+(?P<secret>[A-Za-z0-9+/_.=~-]{8,})"
    r"|\bbearer\s+(?P<bare>[A-Za-z0-9+/_.=~-]{16,})"
    r"|\b(?:x-[\w-]*(?:key|token|secret|auth)|private-token|api-key|apikey|cookie)[\"']?\s*[:=]\s*(?:\w+=)?(?P<header>[^\s\"';,]{8,})",
    re.IGNORECASE,
)
BASIC = re.compile(r"\bbasic\s+(?P<secret>[A-Za-z0-9+/]{8,}={0,2})(?![A-Za-z0-9+/=])", re.IGNORECASE)
ELEMENT = re.compile(r"<(?P<name>[A-Za-z][\w.:-]*)(?:\s[^<>]*)?>(?P<secret>[^<>\s]{4,})</")
COMMAND = re.compile(
    r"(?:\s-u\s?|--user[= ])[\"']?(?P<user>[\w.@-]+):(?P<secret>[^\s\"'@]{4,})"
    r"|\b(?:mysql|mysqldump|mysqladmin|sshpass|mongo|mongosh)\b[^\n]*?\s-p\s?[\"']?(?P<short>[^\s\"']{4,})"
    r"|(?<![\w-])--?(?P<flag>[\w-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|key))"
    r"(?:[= ]|[\"'],?\s*[\"'])[\"']?(?P<flagged>[^\s\"',;]{4,})"
    r"|--from-literal[= ][\"']?[\w.-]+=(?P<literal>[^\s\"']{4,})",
    re.IGNORECASE,
)
CALL = re.compile(
    r"log_?in\b|sign_?in\b|authenticate|(?:basic|digest)_?auth|httpbasic|\.auth\b|\bauth\s*=|credentials?\b|getconnection\("
    r"|pdo\(|_connect\(|connect\(|securestring|identified\s+by|with\s+password|\bpassword\s+'",
    re.IGNORECASE,
)
CONFIGURATION = frozenset(
    {"YAML", "Shell", "Dockerfile", "TOML", "Makefile", "PowerShell", "CMake", "HCL", "Nix", ""}
)
# A line that speaks of a digest holds one.
DIGEST = re.compile(
    r"sha-?\d|\bmd5|digest|checksum|\bhash|integrity|commit|\brev(?:ision)?\b|fingerprint|etag|\bguid\b|uuid|blob|crc"
    r"|public[-_ ]?key|certificate",
    re.IGNORECASE,
)
