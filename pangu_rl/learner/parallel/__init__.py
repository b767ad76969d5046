"""How ranks share the work of one model: sequences, pictures, and the states of ZeRO."""
