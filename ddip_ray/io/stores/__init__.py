"""Our own files: acquisition and result stores, snapshots."""
