"""Recipe steps: what is done to an image between its archive and the store, and how to undo it."""
