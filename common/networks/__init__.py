"""Networks: weight files, engines, what their outputs mean, and the model families that several functions share."""
