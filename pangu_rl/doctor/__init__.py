"""A machine, and a stage's configuration -> **findings**: what would stop or slow a run here, each with its mend."""
