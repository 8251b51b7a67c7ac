"""A first look: serves the functions, sends each kind real pixels, prints the replies, draws them."""
