"""Small projects, one for each package that this one is used beside: see ``test_neighbours``."""
