"""`sordino bench dp`: what privacy costs in time and memory, on the small base and on larger ones."""
