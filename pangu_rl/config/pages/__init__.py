"""Configurations and schemas as pages that a person reads."""
