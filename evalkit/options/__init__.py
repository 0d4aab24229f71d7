"""Every option, written once: its type, default, check and help, whoever reads it."""
