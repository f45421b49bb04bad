"""Simulates a federation before it is founded: its apps on Flower's simulation engine, with virtual members.

code       splits repositories among members, and keeps code that measures the model
place      the founded federation: keys, charter, settings of each party
engine     Flower's own processes, on Ray
command    `sordino simulate`
"""
