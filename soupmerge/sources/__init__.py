"""Where things come from: references to weights, networks and images."""
