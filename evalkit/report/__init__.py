"""What people read: leaderboard, comparison, decision, trend, explanation. Runs nothing."""
