"""The configuration: `schema` is what the rest of the router sees.

The way there from a YAML file, in `load`: `document` (YAML to nodes), `build` (nodes to a `Config`), `rules` and
`rules_tls` (what must hold), `effects` (what is not acted on yet). Every step reports to one list of problems, so
all mistakes are told at once.
"""
