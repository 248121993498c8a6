"""What administrators may do, one module for each noun. `twin` (api/cli) does the same from a terminal.

Each module has its bodies, one function for each act that takes a connection, and the routes around them. Every act is
a row of `credit_operations` with who did it, and every one can be undone: its description says how.
"""

from fastapi import APIRouter

from api.admin import corrections, grants, operations, people, plans, prices

router = APIRouter(tags=["admin"])
for _part in (grants, corrections, people, plans, prices, operations):
    router.include_router(_part.router)
