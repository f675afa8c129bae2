"""3D Gaussians over time: container, activation, densification, deformation."""
