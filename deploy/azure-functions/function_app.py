"""The edge reflector as an Azure Function: GitHub's deliveries in, proven events onto the bus."""

from pathlib import Path

import azure.functions as func

from mayfly.cli.reflecting import function

# Settings that cannot be used end the start here, and the host's log has the sentence.
middleware = func.AsgiMiddleware(function(Path(__file__).with_name("reflector.toml")))
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
"""Anonymous, because GitHub has no key of a function: the signature of a delivery is the proof."""


@app.route(route="{*path}")
async def reflect(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Every path; what the bus has not confirmed is answered 503, so GitHub's log shows it."""
    return await middleware.handle_async(req, context)
