"""The files that test servers and official scripts want."""
