"""A model's tensors on their way: read from a folder, cut for ranks, handed to engines, exported."""
