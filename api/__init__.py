"""The doors: HTTP comes in, credits are reserved, the bell is rung. Read app.py first."""
