"""How a Model runs fast: one engine a file, one interface."""
