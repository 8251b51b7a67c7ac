"""The wire: what CVAT sends and what it accepts, readers beside writers; CVAT's labels and the shapes of its SDK."""
