"""Posts → the digest's letter, as text and HTML, and as a message."""
