"""From the socket to the ASGI application: the server, its connections, and its protocols: HTTP/1.1, 2 and 3."""
