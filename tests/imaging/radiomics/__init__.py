"""Numbers of a region against published values and other implementations."""
