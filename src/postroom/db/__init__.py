"""The database: subscribers, issues, deliveries and runs, on SQLite or PostgreSQL."""
