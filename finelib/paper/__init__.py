"""The paper: what it prints, what was measured beside it, and what that says of its claims."""
