"""The three frozen encoders: SigLIP2 (what is seen), Synchformer (when it happens), CLAP (what is asked for)."""
