class Display:
    verbosity: int
