"""The motion: one module per arrow of the flow. Read main.py first."""
