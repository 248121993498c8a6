"""The same generator with nothing aggregated: the text is on the stream alone."""

import runpod

from tests.world.handlers.telling import handler

if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
