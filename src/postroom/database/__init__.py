"""The database: how it is reached, what its tables are, and how an older one is brought up."""
