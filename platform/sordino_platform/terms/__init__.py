"""A charter's terms for people: from options to terms, what terms mean in a round, and how they are shown.

Unlike the charter itself (sordino_platform.charter), this package knows about rounds and the parties' folders.
"""
