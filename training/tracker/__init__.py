"""`python -m training.tracker`: a tiny network with VitTrack's inputs and outputs that follows drawn shapes."""
