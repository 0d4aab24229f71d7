"""The command line: one verb a file, its arguments and what it does."""
