"""The columns of a row, one by one: which are used, what may stand in them, what is refused by name."""
