"""What the study says, what runs are asked about it, and what came out."""
