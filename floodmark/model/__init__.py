"""What passes between the rooms of Floodmark and lies on disk: typed, with a version, and read in one place."""
