"""Commands that make an acquisition: from a simulation or from measured data."""
