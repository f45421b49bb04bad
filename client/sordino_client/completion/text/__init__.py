"""The boundary between a model and an editor's text: what comes in, what may be written, what is offered. All pure.

    place.py      in: one kind of line ending, whole characters; out: the document's own ending
    utf8.py       which tokens keep what is written valid UTF-8
    fitting.py    how much of a written text is offered where it would stand
      brackets.py   brackets and quotes: none that the text behind the cursor has already
      following.py  the rest of the line, and the next lines: not again
      loops.py      a model that repeats itself
    positions.py  LSP positions: lines and columns in UTF-8, UTF-16 or UTF-32 units

Every dialect passes through it, because it lies below them: `Generator.answer` takes an editor's text and answers with
an editor's text. Nothing here knows a dialect, a model or a file.
"""
