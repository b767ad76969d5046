"""The actors that a loop stands on: called, found lost, started again and ended together."""
