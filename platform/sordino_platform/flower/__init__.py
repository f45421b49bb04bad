"""How the federation uses Flower: messages and phases over Flower's public API, and one shim for the rest."""
