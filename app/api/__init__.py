"""The REST API: thin handlers, each of which asks one query or leaves one command for the engine."""
