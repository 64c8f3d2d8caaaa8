"""Training: the loop, its objectives and their data. Nothing that makes sound for a video imports this."""
