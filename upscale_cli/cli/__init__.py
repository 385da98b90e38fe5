"""The command line: declares options, calls one verb, renders the result. No torch at import."""
