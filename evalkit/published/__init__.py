"""The papers' numbers, the official sample counts, and known facts about both."""
