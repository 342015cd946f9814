"""Does one thing."""
