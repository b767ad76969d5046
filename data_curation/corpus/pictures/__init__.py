"""Pictures of things: what, how many, where, which, what is nearer, and when."""
