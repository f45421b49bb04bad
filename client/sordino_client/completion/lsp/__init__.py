"""The language server, over stdio: `sordino lsp`, for Neovim, Emacs, Helix and VS Code's language client.

    wire.py         JSON-RPC messages with their lengths in front
    documents.py    the open documents, by the protocol's own positions
    suggestions.py  known suggestions: typing along one needs no request
    outcomes.py     what happened to each suggestion
    desk.py         asks the endpoint: now, and ahead of the typing
    server.py       the conversation

Only the standard library: a server that editors start with every window should be there at once, and no protocol
library can be installed beside all that training needs (docs/adr/0030).
"""
