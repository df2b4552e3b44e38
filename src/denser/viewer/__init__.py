"""The viewer and sketchpad in the browser: a local server, a session per tab, a static page."""
