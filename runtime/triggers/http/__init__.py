"""HTTP: the core (routes, access, answers) works without an ASGI scope; app is the shell that Hypercorn serves."""
