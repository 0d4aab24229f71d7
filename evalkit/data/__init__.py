"""Files, archives, tables and the hub: how a dataset's bytes are found and read."""
