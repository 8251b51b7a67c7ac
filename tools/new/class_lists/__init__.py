"""The names of a model's classes, from the command line and from the files that training tools and data sets keep them in."""
