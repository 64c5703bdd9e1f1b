"""The HTTP interface: routes that parse, call and answer."""
