"""What each command does, one file per noun: no printing, no options, callable from a notebook."""
