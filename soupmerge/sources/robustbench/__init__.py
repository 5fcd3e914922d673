"""RobustBench's model zoo (Croce et al. 2021, arXiv 2010.09670), without its package."""
