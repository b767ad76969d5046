"""Vision-only pre-training of the encoder: cluster labels -> **multi-label cluster discrimination**, then regions."""
