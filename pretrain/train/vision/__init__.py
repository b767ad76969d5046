"""The vision-only stage as a run: pictures -> labels by a real encoder's clusters -> the tower learns to tell them."""
