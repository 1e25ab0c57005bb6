"""ddip-ray: 3D reconstruction from few measurements with an adapted 2D diffusion prior."""

__version__ = "0.1.0"
