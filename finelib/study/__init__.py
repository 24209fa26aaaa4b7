"""What is measured of a trained model beyond its scores."""
