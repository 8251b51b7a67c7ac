"""Scripts that make the small networks of the tests; a user of the functions needs none of them."""
