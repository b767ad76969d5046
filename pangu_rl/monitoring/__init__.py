"""What a person sees of a run: metrics, live view, log, curves, held-out table, and the watchdog."""
