"""Why no suggestion: every silent outcome has a name, and a sentence that a developer understands."""

from __future__ import annotations

from typing import Literal

from sordino_client.completion.query import Answer
from sordino_client.completion.stopping import Finish

Reason = Literal[
    "shown",
    "warmed",
    "withdrawn",
    "no_model",
    "busy",
    "line_complete",
    "document_complete",
    "repeats_suffix",
    "loop",
    "credential",
    "unsure",
    "syntax",
    "line_ending",
    "character",
    "secret_file",
    "stop_string",
    "blank",
    "error",
]
EXPLANATION: dict[Reason, str] = {
    "shown": "a completion was returned",
    "warmed": "the editor only asked to read the file ahead",
    "withdrawn": "a newer request of the same editor came first, or the editor hung up",
    "no_model": "there is no model on this machine yet",
    "busy": "too many requests were waiting",
    "line_complete": "the model expects the line to end here",
    "document_complete": "the model expects nothing more here",
    "repeats_suffix": "the completion would only repeat what stands behind the cursor",
    "loop": "the model began to repeat itself",
    "credential": "the completion would have held what may be a credential",
    "unsure": "nothing was likely enough to be worth a look (the setting: quiet, balanced, eager or all)",
    "syntax": "what the model wrote would have been a syntax error here",
    "line_ending": "the cursor stands within a line ending",
    "character": "the cursor stands within a character",
    "secret_file": "a file of this name may hold secrets: nothing is completed in it",
    "stop_string": "the first thing the model wrote is one of the editor's stop words",
    "blank": "the model wrote only blanks",
    "error": "the engine failed; the endpoint's log says how",
}


def why(answer: Answer) -> Reason:
    """`shown`, or why an answer holds no text worth showing."""
    if any(completion.text.strip() for completion in answer.completions):
        return "shown"
    if not answer.completions:
        return answer.silence or "warmed"
    first = answer.completions[0]
    if first.text:
        return "blank"
    if first.cut is not None:
        return first.cut
    if first.finish == "length" and not answer.generated_tokens:
        return "warmed"
    by_finish: dict[Finish, Reason] = {
        "line": "line_complete",
        "block": "line_complete",
        "end": "document_complete",
        "stop": "stop_string",
        "length": "blank",
        "cut": "blank",
    }
    return by_finish[first.finish]
