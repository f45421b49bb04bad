"""A charter's terms for people: from options to terms, what terms mean in a round, and how they are shown.

The charter itself (sordino_platform.charter) knows nothing of rounds or of the parties' folders; this does.
"""
