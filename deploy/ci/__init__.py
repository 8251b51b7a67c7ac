"""What the workflows run, such as `python3 -m deploy.ci.start_nuclio` in the root of the repository."""
