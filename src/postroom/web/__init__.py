"""The web service and the built site."""
