"""The same generator with nothing aggregated: the pieces are on the stream alone."""

import runpod

from tests.local_runpod.peers.generating import handler

if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
