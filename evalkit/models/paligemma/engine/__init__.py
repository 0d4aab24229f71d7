"""The forward pass, written twice: plain and fast."""
