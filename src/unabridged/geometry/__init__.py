"""Ground floor: exact linear algebra of vectors, moments and Gaussians. numpy and torch only."""
