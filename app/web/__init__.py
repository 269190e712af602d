"""The web page: HTML from the same answers as the API, kept current by server-sent events."""
