"""Rows of several sources in one stage: how often each comes, and how often each came."""
