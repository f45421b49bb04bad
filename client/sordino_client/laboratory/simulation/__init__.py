"""A federation that does not exist yet: its apps under Flower's simulation engine, with virtual members.

code       repositories split into members, and public code that measures
place      the founded federation: keys, charter, settings of each party
engine     Flower's own processes, on Ray
command    `sordino simulate`
"""
