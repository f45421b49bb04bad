"""`sordino bench dp`: the cost of privacy in time and memory, on the small base and on larger ones."""
