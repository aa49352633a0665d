"""Plans by measurement."""
