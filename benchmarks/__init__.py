"""Measurements that the documentation quotes; each module prints a table and writes it as JSON."""
