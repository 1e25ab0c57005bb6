"""Stores that ddip-ray writes: acquisitions, results, and the files of snapshots.

`schema` says what is in a store's metadata; `arrays` reads and writes sharded Zarr; `staging` publishes a
store whole or not at all.
"""
