"""The HTTP server: OpenAI's interface in front of one engine.

    connection.py   sockets: how many, how long a head may take, how long a reader may stall
    guard.py        key, content type, body (its size and its time), answers to what went wrong
    requests.py     JSON -> settings, each with its bounds; what is known but unsupported is refused
    planning.py     settings -> requests to the engine: prompts as ids, seeds, room
    worker.py       the thread that owns the engine, and its bounded queue
    choices.py      tokens -> text of one choice: stop strings, log-probabilities, why it ended
    answers.py      choices -> OpenAI's forms, whole or as a stream
    app.py          the routes;  running.py: the server's life, from bind to drained

Importing this package imports nothing: fastapi and uvicorn are an extra.
"""
