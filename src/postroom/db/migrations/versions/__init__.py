"""One file for each version; a released migration never changes."""
