"""How often a next edit is right, replayed from the differences between two releases of public packages."""
