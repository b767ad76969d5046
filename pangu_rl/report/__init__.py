"""A run directory -> **one HTML page** for a person: curves, evaluations, rewards, and rollouts to look at."""
