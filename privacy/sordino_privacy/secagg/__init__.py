"""Secure aggregation, `sordino-secagg/1`: the coordinator learns a sum and nothing about any summand."""
