"""An issue as a rendered email, and one message for each subscriber."""
