"""Foreign clients of resumable uploads, as commands that print their events: one JSON object a line."""
