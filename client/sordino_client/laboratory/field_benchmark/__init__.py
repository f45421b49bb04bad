"""`sordino bench federation --field`: what a federation brings to companies of one field, and to those that join later.

profile.py           the sizes of a run
repositories.py      members and newcomers on disk, whole packages held out; the eight files of a newcomer
knowledge.py         what a party's memory holds: nothing, eight of its files, all its files, and the text of the others
party.py             measures one party: every model with every memory, own adapters on top
taking.py            what a member takes from the federation, chosen on files that are not reported
paired.py            differences between two contenders, with intervals over parties and files
benchmark.py         the stages in order
report.py            the figures that are quoted
"""
