"""The watcher: checks, alerts, reports and safety copies. It never imports `app`, and needs nothing of it."""
