"""How often a next edit is right, replayed from the changes between two releases of public packages."""
