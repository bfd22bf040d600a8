"""What networks are: the plan of one, and a file for each family that says how its files become plans."""
