"""`twin`: what operators do from a terminal, through the same functions as the API's doors."""
