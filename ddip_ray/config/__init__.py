"""What a user can set: names, settings, defaults of each method. Imports neither torch nor ray."""
