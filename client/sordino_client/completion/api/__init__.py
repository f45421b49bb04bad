"""The endpoint: one guard in front, one file per dialect behind it, one engine under all of them."""
