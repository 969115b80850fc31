"""One file a room: `show(studio)` draws it."""
