"""A non-blocking SMTP client."""
