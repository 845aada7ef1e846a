"""Reports in HTML, and numbers as people read them."""
