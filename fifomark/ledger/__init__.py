"""ORDER: every SQL statement, the schema, and the migrations."""
