"""The forward pass, twice: the plain engine and the fast one."""
