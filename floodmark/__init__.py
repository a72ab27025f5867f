"""Floodmark: what an nginx reverse proxy does when the server behind it misbehaves.

This package runs on the control node. It reads files and never opens a connection to a host:
only Ansible touches a host. The one exception in place is `floodmark.loadgen`, which runs on
the load generator inside Locust.
"""

__version__ = "0.1.0"
