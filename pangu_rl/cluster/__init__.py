"""Ray for a run: a private one, a running cluster joined, or a job sent to it."""
