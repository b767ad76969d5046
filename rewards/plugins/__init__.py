"""For authors of reward plugins: a package to start from, and the contract that a plugin must keep."""
