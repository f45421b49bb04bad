"""A member's machine: its repositories, its trainer, its ledger, its agent and its completions."""
