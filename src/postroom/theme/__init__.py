"""Templates and translations."""
