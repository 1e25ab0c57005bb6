"""Templates of jobs, and an example of every site file; installed as ``ddip_ray_deploy``."""
