"""A page in the browser, and the HTTP API behind it, on this machine: pictures in, larger pictures out."""
