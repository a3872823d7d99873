"""The feed documents of a site and their archives, with one writer for each format."""
