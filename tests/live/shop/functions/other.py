from runtime import http


@http.get
def other(): ...
