"""A pipeline's file: its nodes, what each reads of another, and the sets of overrides over it."""
