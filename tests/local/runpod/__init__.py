"""A RunPod of our own: the public API, webhooks and worker wire of RunPod serverless on one machine.

It stands for somebody else's service, so it imports nothing of ours. Three ways to use it:

1. **As a program**: `python -m tests.local.runpod --port 8100 --api-key KEY [--endpoint text=my_handler.py]` starts
   the gateway and real, unmodified `runpod` SDK workers behind it (`__main__.py`, `fleet.py`).

2. **In a test, over `httpx.ASGITransport`**, with a scripted worker that comes through the same door as the wire::

       clock = ManualClock()
       runpod = Platform(["text"], clock=clock)
       http = client(runpod)                       # httpx.AsyncClient at …/v2, key set      (door.py)
       runpod.deliver_to(our_asgi_app)             # webhooks go into that app, in process

       await http.post("/text/run", json={"input": {"prompt": "hi"}, "webhook": "http://us/hook"})
       job = runpod.take("text")                   # IN_PROGRESS; None when nothing waits
       runpod.progress(job.id, "50%")
       runpod.complete(job.id, {"images": []})     # or fail, time_out, lose, forget, stream
       await runpod.deliver_webhooks()             # what is due now -> list of attempts made
       clock.advance(10); await runpod.deliver_webhooks()    # the second try, if the first was not a 200
       assert len(runpod.calls_to("run")) == 1     # what RunPod was asked, whatever it answered
       runpod.weather.order("rate_limited", endpoint="text", operation="run", count=2)

   `work_off("text", handler)` takes and finishes everything that waits; `await next_job("text")` waits for one.
   `async with runpod.running():` makes time and webhooks move by themselves instead (timers every 50 ms, webhooks as
   they fall due). Long polls end by the clock or by real time, whichever comes first.
   In process a timeout raises `httpx.ReadTimeout` at once and a dropped connection `httpx.RemoteProtocolError`.

3. **In a benchmark, without any worker**: `Platform(); add_endpoint("instant", canned=Canned(lambda job: …))`
   completes each job at once, or after `queue_seconds` and `run_seconds`; `Rules(limits=NO_LIMITS)` lifts the limits.

Read `platform.py` first. `rules.py` has every number, `refusals.py` every refusal, `weather.py` every trouble
(also over HTTP: `weather_door.py`, and in words: `orders.py`), `public_api.py` and `worker_wire.py` the two doors.

What nobody could tell us about the real service is decided here like this: cancelling or retrying a job that is not
in the right state leaves it and answers 200 with its state (cancel) or 400 (retry); a policy outside its documented
bounds is a 400; nothing is sent on CANCELLED and when a ttl deletes a job; a failed job shows `output` only if the
worker sent one with its error.
"""
