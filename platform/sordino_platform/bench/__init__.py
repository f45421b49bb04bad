"""`sordino bench secagg`: what secure aggregation costs, beside Flower's own SecAgg+ and the machine's limits.

world     members, contexts and updates to measure with
cells     one row per measured cell: masking, quantising, unmasking, Shamir, bytes, and the limits
whole     a whole client and a whole server at five members, ours and Flower's, with their peak memory
crowd     a round of many members, the coordinator in a process of its own
secagg    the command and the figures that follow from the rows
"""
