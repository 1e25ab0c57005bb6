"""The command line: parse, call one library function, show the result. Installed as `ddip_ray_cli`.

Only typer is imported when a command starts; torch, ray, zarr and dask wait until it is known which.
"""
