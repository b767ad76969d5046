"""What pages of runs and of curation share: a template as a file without scripts, and text that is made inert."""
