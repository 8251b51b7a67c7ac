"""Makes a function's directory: complete, for a weight file; or as a commented template, for any kind of function."""
