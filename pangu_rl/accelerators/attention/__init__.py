"""Attention over a tree of segments, in memory linear in the tokens: one kernel per device behind one record."""
