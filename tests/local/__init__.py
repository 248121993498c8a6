"""The outside world on one machine. Never in the production image."""
