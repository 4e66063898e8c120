"""What the people who run the course need; nothing of it is in the handout."""
