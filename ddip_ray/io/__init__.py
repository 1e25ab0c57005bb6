"""The only code that touches image and measurement files: their readers, and the stores that ddip-ray writes.

Rooms, each standing on those after it:

- `images`, `projections`, `kspace`: readers of other people's files, one file a format. A reader is a row in
  the table of the room's ``open.py``.
- `stores`: our own files. An acquisition holds measurements and their geometry, a result a reconstructed
  volume with its provenance, and snapshots the state of a run.
- `paths`, `hdf5`, `npz`, `formats`, `lengths`: what the rooms share.

Files without images or measurements in them stay with their owners: weights and adapters with `prior` and
`solvers` (and with `engine`, which takes them to the workers), settings with `config`, job scripts and logs
with `launch`, the checks of a disk with `doctor`, and with `tasks` what it writes beside results: a cohort's
ledger and adapters, tables and pictures.

Heavy readers (zarr, tensorstore, dask, nibabel, ...) are imported inside the functions that need them, so
that importing this package stays cheap enough for a command line's ``--help``.
"""
