"""Writes the files that test servers and official scripts read."""
