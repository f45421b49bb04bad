"""The long-lived process of a member (`sordino client up`), without torch.

up                  the process: it holds the link and the ledger, and has two children
connection          the link for the life of the process: what a refusal means, and when to try again
renewing            the next certificate, asked for over the link
completion_process  the completion server as a child
outside             what the process does while the ledger refuses to open
"""
