"""The scripts that fit the memories' tables.

fitting.py fits the table of the local memory. shared_fitting.py fits the table of the shared memory, with the counts
that field_counts.py simulates.
"""
