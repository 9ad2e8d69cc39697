"""Database backends as other packages bring them."""
