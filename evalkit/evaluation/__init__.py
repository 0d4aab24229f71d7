"""What a run does: plan, predict, score, stop early. Prints only its progress."""
