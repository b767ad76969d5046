"""LLM scorers: votes from 1 to 5 by criterion, and one declared value of them. A scorer that fails gives no number."""
