"""The bridge: choosing the coefficients of a soup by what it does to images."""
