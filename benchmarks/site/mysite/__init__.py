"""The small Django site that every row of the benchmark serves."""
