"""Long documents in an embedded database: read, kept up to date, searched."""
