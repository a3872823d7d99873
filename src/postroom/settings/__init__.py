"""Read and validate postroom.yaml."""
