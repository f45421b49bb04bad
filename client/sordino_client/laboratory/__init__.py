"""Where sordino is measured and its public base is made. The product never imports it: the import linter holds that.

pretrain              the public corpora, the base model and its export
memory_fitting        the tables with the weights of the memories, fitted on public projects
base_benchmark        `sordino bench base`
completion_benchmark  `sordino bench completion` and `sordino bench typing`
training_benchmark    `sordino bench dp`
secrets_benchmark     `sordino bench secrets`
poisoning_benchmark   `sordino bench poisoning`
next_edit_benchmark   how often the next edit is right
federation_benchmark  `sordino bench federation`, of projects of many fields
field_benchmark       `sordino bench federation --field`, of projects of one field
plan_search           searches the plan of a private run on public projects

Its commands are entry points: the code is loaded only when somebody runs one.
"""
