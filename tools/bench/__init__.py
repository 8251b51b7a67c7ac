"""Speed as ratios: our way and the plain way side by side in one run."""
