"""Read, write and scaffold posts."""
