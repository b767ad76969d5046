"""What training costs: operations, memory, and where the time goes."""
