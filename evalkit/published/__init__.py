"""The papers' numbers, the official sample counts, and what is known of both."""
