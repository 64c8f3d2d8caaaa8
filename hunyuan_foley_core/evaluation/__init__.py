"""Does the small model do what is asked of it? Figures beside their targets, from a folder of weights.

Nothing that makes sound for a user imports this.
"""
