"""How tokens are chosen: beam search, sampling, likelihood of choices, forbidden tokens."""
