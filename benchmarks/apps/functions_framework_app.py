"""The three endpoints on functions-framework: one function, so it looks at the path and checks the body itself."""

from flask import Request


def main(request: Request) -> object:
    if request.path in ("/hello", "/hello-sync") and request.method == "GET":
        return {"message": f"Hello {request.args.get('name', 'world')}"}
    if request.path == "/sum" and request.method == "POST":
        body = request.get_json()
        if not isinstance(body, dict) or not all(isinstance(body.get(key), int | float) for key in ("x", "y")):
            return {"error": "x and y must be numbers"}, 422
        return {"result": body["x"] + body["y"]}
    return {"error": "nothing answers here"}, 404
