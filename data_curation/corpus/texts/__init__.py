"""Samples without pictures."""
