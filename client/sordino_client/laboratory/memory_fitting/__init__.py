"""The scripts that fit the memories' tables: fitting.py of the local memory, shared_fitting.py of the shared one, whose
projects count as field_counts.py says."""
