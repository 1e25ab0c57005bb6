"""The command line: parse, call one library function, show the result. Installed as `ddip_ray_cli`.

Only typer and the table of methods are imported when a command starts; torch, ray, zarr and dask wait until a
command needs them.
"""
