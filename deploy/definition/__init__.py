"""What a function is, and what it is deployed with: function.yaml as it was written, and as nuctl gets it."""
