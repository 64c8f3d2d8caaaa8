"""HunyuanVideo-Foley in plain PyTorch: video and text in, 48 kHz sound out. Knows nothing of ComfyUI."""
