"""Where sordino is measured and its public base is made. The product never imports it: the import linter holds that.

pretrain              the public corpora, the base model and its export
memory_fitting        the tables by which memories are mixed in, fitted on public projects
base_benchmark        `sordino bench base`
completion_benchmark  `sordino bench completion` and `sordino bench typing`
training_benchmark    `sordino bench dp`
secrets_benchmark     `sordino bench secrets`
poisoning_benchmark   `sordino bench poisoning`

Its commands are entry points, so only a person who asks for one ever loads it.
"""
