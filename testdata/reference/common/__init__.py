"""What the profiles of the reference share: building blocks, and why a packet is refused."""
