"""What `bench.py` measures, one module for each of its parts."""
