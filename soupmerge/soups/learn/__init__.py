"""Learning: coefficients trained by gradient descent."""
