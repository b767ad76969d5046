"""Trees of segments -> outlines of packs -> micro-batches of the ranks."""
