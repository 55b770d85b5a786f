"""The state store on SQLite."""
