"""How fast training and inference are on this machine."""
