"""Checks that need the real torch-npu over stand-ins for CANN: `python -m tests.ascend` brings both."""
