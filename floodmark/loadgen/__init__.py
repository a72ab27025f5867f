"""What runs inside Locust, on the load generator."""
