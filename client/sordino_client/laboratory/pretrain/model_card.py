"""The model card for people (Mitchell et al. 2019), rendered from the card that ships with the weights.

Every figure is from `card.json`. A test compares docs/model-card.md with this rendering, so the page always matches the
weights that it describes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

_LIMITS = """\
## Limits

* It is small on purpose: it must answer within a keystroke on two cores. Alone it is right about the rest of a line in
  the share of cases given above; the local memory of the member's own code adds most of what a developer sees.
* {languages} Other languages work through the local memory only.
* It writes what looks likely, not what is correct or safe. Nothing it suggests is ever run by the product.
* Public code holds its authors' habits, names and mistakes, and the model can repeat short runs of it word for word.
* It was trained without privacy, on public code only. What a federation trains on top is private; see
  privacy-statement.md.
"""
# What the weights were trained on. Older cards, from before the mixture of languages, do not have this.
_JAVA_AND_PYTHON = "It knows Java first and some Python."
_OF_THE_MIXTURE = "It knows Java first, then Python and Go, and some TypeScript and JavaScript."
_FORMS = {"sordino-base/1": "float16", "sordino-base/2": "bytes by rows"}
_ROLES = {
    "heldout-python": "Python",
    "heldout-go": "Go",
    "heldout-typescript": "TypeScript and JavaScript",
}


def render(card: dict[str, Any]) -> str:
    """The whole page, Markdown, for one base's card."""
    config, corpus, seen, goal = card["config"], card["corpus"], card["tokens_seen"], card["tokens_goal"]
    projects = corpus["projects"]
    characters = sum(p["characters"] for p in projects)
    return "\n".join(
        (
            "# The public base model",
            "",
            "The model that every new federation starts from and that serves completions from the first minute.",
            "Rendered from `card.json` beside the weights by `sordino pretrain --export`.",
            "",
            "| what | value |",
            "| --- | --- |",
            f"| architecture | decoder, {config['layers']} layers, width {config['width']}, {config['heads']} heads, "
            f"context {config['context']} tokens, vocabulary {config['vocabulary']} |",
            f"| weights | `base.safetensors`, {_FORMS[card['format']]}, SHA-256 `{card['sha256']}` |",
            f"| where adapters begin | `directions.safetensors`, SHA-256 `{card['directions_sha256']}` |",
            f"| tokenizer | SHA-256 `{card['tokenizer_sha256']}` |",
            f"| licence | {card['licence']} |",
            f"| trained on | {seen / 1e6:.1f}M tokens, {seen / goal:.0%} of the goal of {goal / 1e6:.0f}M |",
            f"| compute | {card['cpu_hours']} CPU-hours |",
            "",
            *_evaluation(card["evaluation"]),
            *_others(card.get("other_evaluations", {})),
            "## Curve",
            "",
            "Nats per token on public files that were kept back from training, plain text.",
            "",
            "| million tokens | validation |",
            "| --- | --- |",
            *_curve(card["curve"]),
            "",
            "## Data",
            "",
            f"{len(projects)} public projects, {characters / 1e6:.0f} million characters after cleaning: licence "
            "headers stripped,",
            "generated code dropped, every file's own header checked for a permissive licence, files that overlap",
            f"a held-out or member project dropped. Overlap left: {corpus['overlap_left']:.2%} of 13-token runs.",
            f"Corpus SHA-256 `{corpus['sha256']}`.",
            *_before(card.get("before"), {p["name"] for p in projects}),
            "",
            "| licence named by the package | projects |",
            "| --- | --- |",
            *(
                f"| {licence} | {count} |"
                for licence, count in Counter(p["licence"] for p in projects).most_common()
            ),
            "",
            "Projects and versions: " + ", ".join(f"{p['name']} {p['version']}" for p in projects) + ".",
            "",
            _LIMITS.format(languages=_OF_THE_MIXTURE if "mixture" in card["recipe"] else _JAVA_AND_PYTHON),
        )
    )


def _before(before: dict[str, Any] | None, now: set[str]) -> list[str]:
    """What the weights were trained on before this corpus, if the run continued an earlier base."""
    if before is None:
        return []
    gone = sorted(p["name"] for p in before["corpus"]["projects"] if p["name"] not in now)
    return [
        f"The run went on from the base `{before['sha256'][:16]}`, which had read {before['tokens_seen'] / 1e6:.1f}M "
        "tokens",
        f"of the corpus `{before['corpus']['sha256'][:16]}`: "
        + (
            f"of the same projects and of {', '.join(gone)}."
            if gone
            else "none of a project that is not below."
        ),
    ]


def _evaluation(report: dict[str, Any]) -> list[str]:
    """The held-out table, from the output of `sordino eval --json` for these weights."""
    if not report:
        return ["## Quality", "", "Not measured.", ""]
    rows = [("all held-out projects", report), *report["per_project"].items()]
    names = {"memory": "memory of the project alone", "both": "model with that memory"}
    rows += [(names[layer], row) for layer, row in report.get("layers", {}).items() if layer in names]
    rows.append(("n-gram of order 8 with file cache", report["baselines"]["ngram_cache"]))
    return [
        "## Quality",
        "",
        f"On held-out projects that neither training nor any member saw: {report['tokens']} tokens and "
        f"{report['lines']} cursors,",
        "model only where nothing else is said, 95 % confidence interval over files in brackets (`sordino eval`).",
        "",
        "| | bits per byte | next token | rest of line, exact |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {_interval(row, 'bits_per_byte', '.3f')} | {_interval(row, 'next_token_accuracy', '.1%')} | "
            f"{_interval(row, 'line_exact_match', '.1%')} |"
            for name, row in rows
        ),
        f"| xz -9e | {report['baselines']['xz']['bits_per_byte']:.3f} | | |",
        "",
    ]


def _others(reports: dict[str, dict[str, Any]]) -> list[str]:
    """The held-out projects of the other languages, one row each: the model alone, and with the memory."""
    if not reports:
        return []
    rows = []
    for role, report in reports.items():
        both = report.get("layers", {}).get("both")
        rows.append(
            f"| {_ROLES[role]}: {', '.join(report['per_project'])} | {_interval(report, 'bits_per_byte', '.3f')} | "
            f"{_interval(report, 'next_token_accuracy', '.1%')} | {_interval(report, 'line_exact_match', '.1%')} | "
            f"{_interval(both, 'bits_per_byte', '.3f') if both else ''} |"
        )
    return [
        "Other languages, each on its own held-out projects:",
        "",
        "| | bits per byte | next token | rest of line, exact | bits per byte with that memory |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _interval(row: dict[str, Any], key: str, form: str) -> str:
    low, high = row[f"{key}_ci"]
    return f"{row[key]:{form}} [{low:{form}}, {high:{form}}]"


def _curve(entries: list[dict[str, float]]) -> list[str]:
    measured = [e for e in entries if "validation" in e]
    every = max(1, len(measured) // 12)
    kept = measured[::-1][::every][::-1]
    return [f"| {e['tokens'] / 1e6:.1f} | {e['validation']:.3f} |" for e in kept]
