"""Where models come from and where other programs keep them: the hub, addresses, and stores on this machine."""
